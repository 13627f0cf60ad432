"""New rows without labels: what was offered to one person, as if it had been offered to another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from limbeck.errors import UserError, few
from limbeck.types import Rows, fingerprint


@dataclass(frozen=True)
class Cross:
    """Pairs that nobody has seen yet, for a teacher to label: a student learns of every pair what it would say.

    Every row takes the columns of what is offered from one training row, and all others from another; both are drawn
    as often as they stand there, so common things stay common.

    Args:
        count: how many rows to make.
        item: the columns of what is offered: the item and all that is known of it.
        seed: equal seeds make equal rows.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    count: int
    item: tuple[str, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or not self.item:
            raise UserError(
                f"cross: count is {self.count}, item {list(self.item)}; at least 1 and a column were wanted"
            )

    def make(self, rows: Rows) -> Rows:
        """Rows with the same columns and roles, all filled but the label.

        Raises:
            UserError: a column is not there; or it is the label, whose values must not be lent.
        """
        strange = [name for name in self.item if name not in rows.names]
        if strange:
            raise UserError(f"cross: there is no column {few(strange)}; there are: {', '.join(rows.names)}")
        label = rows.roles.get("label")
        if label in self.item:
            raise UserError(f"cross: '{label}' is the label; a row that is made has none")
        draw = np.random.Generator(np.random.PCG64(self.seed))
        person, thing = (pa.array(draw.integers(0, len(rows), self.count)) for _ in range(2))
        columns = {}
        for field in rows.table.schema:
            taken = rows.table.column(field.name).take(thing if field.name in self.item else person)
            columns[field.name] = pa.nulls(self.count, field.type) if field.name == label else taken
        source = fingerprint("cross", 1, rows=rows.fingerprint, settings=asdict(self))
        return Rows(pa.table(columns), np.arange(self.count, dtype=np.int64), source, rows.roles)
