"""Lines of a first recipe, each with a word on why it says what it says."""

from __future__ import annotations

import pyarrow.compute as pc

from limbeck.types import Rows

FEW = 500
PASSES = 300
"""Epochs at most, however few the rows."""


def line(text: str, why: str) -> str:
    """A line of YAML with a comment behind it.

    >>> line("seeds: [0]", "one is quick")
    'seeds: [0]                         # one is quick'
    """
    return f"{text:<34} # {why}"


def protocol(split: str, why: str) -> list[str]:
    """The recipe's protocols where there is one.

    Args:
        split: its kind, with settings behind a comma.
        why: said beside its name.
    """
    name = split.partition(",")[0]
    return ["protocols:", line(f"  - name: {name}", why), f"    split: {{kind: {split}}}", "    splits: [0]", ""]


def shares(count: int) -> str:
    """Shares of training, validation and test rows for so many rows: few rows need a larger test."""
    return "[8, 1, 1]" if count >= FEW else "[6, 2, 2]"


def training_rows(rows: Rows, split: str | None) -> int:
    """How many rows train: those a column of parts says, or those that `shares` leaves."""
    if split is not None:
        return int(pc.sum(pc.equal(rows.table.column(split), "train")).as_py() or 0)
    return len(rows) * (8 if len(rows) >= FEW else 6) // 10


def epochs_for(steps: int, rows: int, batch: int, *, least: int) -> int:
    """Passes over the rows that come to about so many steps: a small file needs more of them.

    >>> epochs_for(750, 4000, 64, least=12), epochs_for(750, 480, 64, least=12)
    (12, 94)
    """
    return max(least, min(PASSES, round(steps / -(-max(rows, 1) // batch))))


def distinct(rows: Rows, column: str) -> int:
    """How many different values a column has."""
    return int(pc.count_distinct(rows.table.column(column)).as_py())
