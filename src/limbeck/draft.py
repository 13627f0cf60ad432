"""Lines of a first recipe, each with a word on why it says what it says."""

from __future__ import annotations

import pyarrow.compute as pc

from limbeck.types import Rows


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
    return "[8, 1, 1]" if count >= 500 else "[6, 2, 2]"


def distinct(rows: Rows, column: str) -> int:
    """How many different values a column has."""
    return int(pc.count_distinct(rows.table.column(column)).as_py())
