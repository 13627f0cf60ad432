"""Lines of a first recipe, each with a word on why it says what it says."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from limbeck.types import Rows

FEW = 500
KINDS = 10
"""Groups at least: fewer cannot fill three parts by any shares."""
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


KIN = (
    "product", "item", "sku", "asin", "article", "goods", "seller", "shop", "store", "merchant", "vendor", "model",
    "商品", "产品", "產品", "货号", "款式", "店铺", "商家", "卖家",
)  # fmt: skip
"""What rows are called by that are of one thing: several pictures of a product, or all that a seller took."""


def kin(rows: Rows, used: Mapping[str, str]) -> str | None:
    """The column by which rows belong together, so that no two of a kind may stand in different parts.

    Args:
        rows: all of them.
        used: role -> column; those columns say something else.

    Returns:
        Of the columns named so, with at least `KINDS` values of which some stand on several rows, that with the
        most; none where there is none.
    """
    found = []
    for name in rows.names:
        words = "".join(f" {c}" if c.isupper() else c if c.isalnum() else " " for c in name).lower().split()
        named = {*words, name.lower()} & set(KIN) or [word for word in KIN if not word.isascii() and word in name]
        plain = name not in used.values() and not pa.types.is_nested(rows.table.schema.field(name).type)
        if named and plain and KINDS <= (count := distinct(rows, name)) < len(rows):
            found.append((count, name))
    return max(found)[1] if found else None


def distinct(rows: Rows, column: str) -> int:
    """How many different values a column has."""
    return int(pc.count_distinct(rows.table.column(column)).as_py())
