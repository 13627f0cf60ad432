"""What commands share: their common options, and how they answer people and scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from limbeck.progress import Teller

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/<recipe>")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: students.0.width=8")
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, and nothing else, on standard output.")]
Encoding = Annotated[str, typer.Option(help="Of a CSV file's text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing while working.")]


def teller(*, quiet: bool) -> Teller:
    """Progress on standard error."""
    from limbeck.progress import Teller

    return Teller(quiet=quiet)


def say_json(said: object) -> None:
    """JSON on standard output; NaN is null."""
    from limbeck.report import plain

    print(json.dumps(plain(said), ensure_ascii=False, allow_nan=False, indent=1))


def say_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere a line a row, its cells apart by tabs, as other programs want it."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [heads, *texts]:
            print("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=SIMPLE_HEAD, pad_edge=False)
    for row in texts:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def figure(value: float | None) -> str:
    """A metric for people: four significant digits, or nothing.

    >>> figure(0.31871), figure(None)
    ('0.3187', '')
    """
    return "" if value is None else f"{value:.4g}"


def size(count: int | None) -> str:
    """Bytes for people.

    >>> size(1_500_000), size(12)
    ('1.5 MB', '12 B')
    """
    if count is None:
        return ""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def span(seconds: float | None) -> str:
    """A time for people.

    >>> span(0.4), span(75), span(7300), span(None)
    ('0.4 s', '1 min 15 s', '2 h 1 min', 'not known')
    """
    if seconds is None:
        return "not known"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
