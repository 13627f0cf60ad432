"""Progress on a terminal: bars with rate and time left, silence where the output is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Bar
from rich.text import Text

if TYPE_CHECKING:
    from limbeck.types import Batch, Predictor, Signals


class _Count(ProgressColumn):
    def render(self, task: Bar) -> Text:
        if task.total is None:
            return Text(f"{task.completed:,.0f}" if task.completed else "", style="progress.download")
        return Text(f"{task.completed:,.0f}/{task.total:,.0f}", style="progress.download")


class _Rate(ProgressColumn):
    def render(self, task: Bar) -> Text:
        speed = (task.finished_speed or task.speed) if task.completed else None
        return Text("" if speed is None else f"{speed:,.0f} {task.fields.get('unit', '')}/s", style="dim")


class _Time(ProgressColumn):
    """The time left; the time spent where nobody knows how much there is to do."""

    def __init__(self) -> None:
        self.left, self.spent = TimeRemainingColumn(), TimeElapsedColumn()
        super().__init__()

    def render(self, task: Bar) -> Text:
        return (self.spent if task.total is None else self.left).render(task)


@dataclass
class Teller:
    """Says what a long step is doing.

    Args:
        quiet: say nothing at all (`--json`, or the functions' default).
    """

    quiet: bool = True

    def __post_init__(self) -> None:
        self.console = Console(stderr=True, quiet=self.quiet, highlight=False)
        self.shown: Progress | None = None

    def say(self, text: str) -> None:
        """One line, on a terminal or not."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
        """A bar on a terminal, gone when its work is done; work within the work gets a line below.

        Args:
            what: is being done.
            total: how much there is to do; none where nobody knows, which shows the time spent.
            unit: of the total.
        """
        if self.quiet or not sys.stderr.isatty():
            yield Advance(None, TaskID(0))
        elif self.shown is not None:
            task = self.shown.add_task(what, total=total, unit=unit, note="")
            try:
                yield Advance(self.shown, task, total)
            finally:
                self.shown.remove_task(task)
        else:
            note = TextColumn("[dim]{task.fields[note]}")
            words = TextColumn("  {task.description}", markup=False)
            columns = (words, BarColumn(bar_width=28), _Count(), _Rate(), _Time(), note)
            try:
                with Progress(*columns, console=self.console, transient=True) as self.shown:
                    yield Advance(self.shown, self.shown.add_task(what, total=total, unit=unit, note=""), total)
            finally:
                self.shown = None

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """No bar meanwhile, for drawing one would disturb what is being timed."""
        if self.shown is None:
            yield
            return
        self.shown.stop()
        try:
            yield
        finally:
            self.shown.start()


@dataclass
class Advance:
    """Moves a bar; does nothing where none is shown."""

    progress: Progress | None
    task: TaskID
    total: int | None = None
    done: int = 0

    def __call__(self, count: int, note: str = "") -> None:
        """Move on by `count`, and say `note` beside the bar."""
        if self.progress is None:
            return
        self.done += count
        self.progress.update(self.task, advance=count, note=note)
        if self.total and self.done > self.total:  # a judge that asks about all rows once more, for example
            rounds = -(-self.done // self.total)
            self.progress.update(self.task, total=rounds * self.total)


@dataclass(frozen=True)
class Heard:
    """A predictor whose every answer moves a bar on."""

    predictor: Predictor
    advance: Advance

    @property
    def reads(self) -> tuple[str, ...]:
        """Of the predictor."""
        return self.predictor.reads

    @property
    def fingerprint(self) -> str:
        """Of the predictor."""
        return self.predictor.fingerprint

    def __call__(self, batch: Batch) -> Signals:
        """What the predictor says."""
        said = self.predictor(batch)
        self.advance(len(batch.key))
        return said
