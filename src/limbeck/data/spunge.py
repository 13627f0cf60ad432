"""New rows of a table without labels, made by disturbing a few cells of training rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from limbeck.cells import Cells, as_rows, cells
from limbeck.errors import UserError
from limbeck.types import Array, Rows


@dataclass(frozen=True)
class Spunge:
    """Rows near real ones, for a teacher to label: each cell is disturbed by chance, and by itself.

    A number gets normal noise; a category is drawn again by how frequent the column's values are.

    Args:
        count: how many rows to make, each of a training row drawn at random.
        seed: equal seeds make equal rows.
        share: of the cells that are disturbed.
        noise: standard deviation of the noise, in those of the column.

    Source: the plain rival of MUNGE that compression by soft labels is usually held against; .1 and .1 are the
    customary settings.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    count: int
    seed: int = 0
    share: float = 0.1
    noise: float = 0.1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.share <= 1 or self.noise < 0:
            raise UserError(
                f"spunge: count is {self.count}, share {self.share}, noise {self.noise}; at least 1, a share of 0 to 1 "
                "and 0 or more were wanted"
            )

    def make(self, rows: Rows) -> Rows:
        """Rows with the same columns and roles, of which only the features are filled."""
        draw = np.random.Generator(np.random.PCG64(self.seed))
        known = cells(rows)
        base = known.take(draw.integers(0, len(known), self.count))
        numbers = {name: self._numbers(values, known.numbers[name], draw) for name, values in base.numbers.items()}
        codes = {name: self._codes(values, known.codes[name], draw) for name, values in base.codes.items()}
        return as_rows(Cells(numbers, codes, known.values), rows, "spunge", asdict(self))

    def _numbers(self, values: Array, known: Array, draw: np.random.Generator) -> Array:
        spread = float(np.nanstd(known)) if np.isfinite(known).any() else 0.0
        hit = draw.random(len(values)) < self.share
        return values + hit * draw.normal(0.0, 1.0, len(values)) * self.noise * spread

    def _codes(self, values: Array, known: Array, draw: np.random.Generator) -> Array:
        hit = draw.random(len(values)) < self.share
        return np.where(hit, known[draw.integers(0, len(known), len(values))], values)
