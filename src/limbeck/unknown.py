"""Values of lists that were not there in training: how many rows hold them, and which they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from limbeck.errors import counted, few
from limbeck.types import Array, Lists

NAMED = 5
"""Different values that are named."""


@dataclass(frozen=True)
class Unknown:
    """Values of a list column that a model never met, and passes over.

    Args:
        column: its name.
        values: how many there are.
        named: the first few different ones.
        rows: that hold any.
        bare: those of them that hold nothing else, and so are answered as if their list were empty.
        first: the first of those; none where there is none.
    """

    column: str
    values: int = 0
    named: tuple[str, ...] = ()
    rows: int = 0
    bare: int = 0
    first: int | None = None

    def __str__(self) -> str:
        """What a user is told.

        >>> str(Unknown("history", 3, ("a", "b"), 2, 1, 7))
        "3 values of 'history' in 2 rows passed over, for training had none of them ('a', 'b'); row 7 holds no other, \
and is answered as an empty list is"
        """
        more = " and others" if len(self.named) == NAMED and self.values > NAMED else ""
        said = (
            f"{counted(self.values, f'value of {self.column!r}')} in {counted(self.rows, 'row')} passed over, for "
            f"training had none of them ({few(self.named)}{more})"
        )
        if self.first is None:
            return said
        if self.bare == 1:
            return f"{said}; row {self.first} holds no other, and is answered as an empty list is"
        return f"{said}; {self.bare:,} rows hold no other, the first row {self.first}; they are answered as empty lists"

    def with_more(self, column: Lists, missed: Array, rows: Array) -> Unknown:
        """The same with those of more rows.

        Args:
            column: the lists.
            missed: bool, whether each of their values, end to end, was not there in training.
            rows: what each row is called, int64 (B,).
        """
        if not missed.any():
            return self
        length = np.diff(column.offsets)
        count = np.bincount(np.repeat(np.arange(len(column)), length)[missed], minlength=len(column))
        bare = np.flatnonzero((count > 0) & (count == length))
        named = self.named
        if len(named) < NAMED:
            more = (str(column.values[place]) for place in np.flatnonzero(missed))
            named = tuple(islice(dict.fromkeys(chain(named, more)), NAMED))
        first = int(rows[bare[0]]) if self.first is None and len(bare) else self.first
        values, holding = self.values + int(missed.sum()), self.rows + int((count > 0).sum())
        return Unknown(self.column, values, named, holding, self.bare + len(bare), first)
