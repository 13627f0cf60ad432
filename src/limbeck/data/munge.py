"""New rows of a table without labels, made by mixing training rows with their nearest neighbours."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from limbeck.cells import Cells, as_rows, cells
from limbeck.errors import UserError
from limbeck.types import Array, Rows


@dataclass(frozen=True)
class Munge:
    """Rows that lie where real ones do, for a teacher to label.

    A row and its nearest neighbour (numbers scaled to [0, 1], another category as far as a whole range) come
    together, and with a chance `share` for each column they trade: categories are swapped, and each draws a
    number around the other's, with their distance over `local` as standard deviation.

    Args:
        count: how many rows to make.
        seed: equal seeds make equal rows.
        share: p of the paper, the chance that a cell is traded.
        local: s of the paper; more keeps numbers nearer to the neighbour's.

    Source: Bucila, Caruana, Niculescu-Mizil 2006 (Model compression), algorithm 1.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    count: int
    seed: int = 0
    share: float = 0.5
    local: float = 2.0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.share <= 1 or not self.local > 0:
            raise UserError(
                f"munge: count is {self.count}, share {self.share}, local {self.local}; at least 1, a share of 0 to 1 "
                "and more than 0 were wanted"
            )

    def make(self, rows: Rows) -> Rows:
        """Rows with the same columns and roles, of which only the features are filled.

        Raises:
            UserError: there are no features, or fewer than two rows.
        """
        known = cells(rows)
        if len(known) < 2:
            raise UserError("munge: a row alone has no neighbour; at least two rows were wanted")
        neighbour = nearest(known.features())
        draw = np.random.Generator(np.random.PCG64(self.seed))
        rounds = [self._round(known, neighbour, draw) for _ in range(-(-self.count // len(known)))]
        numbers, codes = (
            {name: np.concatenate([getattr(one, part)[name] for one in rounds])[: self.count] for name in held}
            for part, held in (("numbers", known.numbers), ("codes", known.codes))
        )
        return as_rows(Cells(numbers, codes, known.values), rows, "munge", asdict(self))

    def _round(self, known: Cells, neighbour: Array, draw: np.random.Generator) -> Cells:
        """Every row once, in random order, each traded with its neighbour as both stand by then."""
        numbers = {name: values.copy() for name, values in known.numbers.items()}
        codes = {name: values.copy() for name, values in known.codes.items()}
        order = draw.permutation(len(known))
        trades = draw.random((len(known), len(known.names))) < self.share
        noise = draw.normal(size=(len(known), len(numbers), 2))
        for row in order.tolist():
            other = int(neighbour[row])
            for place, values in enumerate(numbers.values()):
                if trades[row, place]:
                    mine, theirs = values[row], values[other]
                    spread = abs(mine - theirs) / self.local
                    values[row] = theirs + noise[row, place, 0] * spread
                    values[other] = mine + noise[row, place, 1] * spread
            for place, held in enumerate(codes.values(), len(numbers)):
                if trades[row, place]:
                    held[row], held[other] = held[other], held[row]
        return Cells(numbers, codes, known.values)


def nearest(features: Array) -> Array:
    """The nearest other row of every row by Euclidean distance, int64 (N,).

    >>> nearest(np.array([[0.0], [1.0], [5.0]]))
    array([1, 0, 1])
    """
    from sklearn.neighbors import NearestNeighbors

    _, found = NearestNeighbors(n_neighbors=2).fit(features).kneighbors(features)
    # Of equal rows the second may be the row itself.
    return np.where(found[:, 0] == np.arange(len(features)), found[:, 1], found[:, 0]).astype(np.int64)
