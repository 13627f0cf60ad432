"""Progress on a terminal: bars with rate and time left, silence where the output is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as Bar
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Bar) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields.get('unit', '')}/s", style="dim")


@dataclass
class Teller:
    """Says what a long step is doing.

    Args:
        quiet: say nothing at all (`--json`, or the functions' default).
    """

    quiet: bool = True

    def __post_init__(self) -> None:
        self.console = Console(stderr=True, quiet=self.quiet, highlight=False)

    def say(self, text: str) -> None:
        """One line, on a terminal or not."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int, unit: str = "rows") -> Iterator[Advance]:
        """A bar that shows itself on a terminal once the work has taken a while."""
        if self.quiet or not sys.stderr.isatty():
            yield Advance(None, None)
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Advance(progress, progress.add_task(what, total=total, unit=unit, note=""))


@dataclass
class Advance:
    """Moves a bar; does nothing where none is shown."""

    progress: Progress | None
    task: object

    def __call__(self, count: int, note: str = "") -> None:
        """Move on by `count`, and say `note` beside the bar."""
        if self.progress is not None:
            self.progress.update(self.task, advance=count, note=note)  # type: ignore[arg-type]
