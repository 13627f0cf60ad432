"""A table's cells as numbers and codes, for row sources that make new rows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck.errors import UserError
from limbeck.types import Array, Rows, fingerprint

NOT_CELLS = ("label", "weight", "split", "id", "user", "item", "time", "text", "picture")
"""Roles of columns that are no features of a table's row; what teachers alone may see is one."""


@dataclass(frozen=True)
class Cells:
    """The columns of rows that are features.

    Args:
        numbers: name -> float64 (N,), NaN where there is none.
        codes: name -> int64 (N,), positions among `values`, -1 where there is none.
        values: name -> the different values of a column of codes.
    """

    numbers: Mapping[str, Array]
    codes: Mapping[str, Array]
    values: Mapping[str, pa.Array]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns, numbers first."""
        return (*self.numbers, *self.codes)

    def __len__(self) -> int:
        return len(next(iter((*self.numbers.values(), *self.codes.values()))))

    def take(self, positions: Array) -> Cells:
        """The rows at these positions."""
        numbers, codes = ({k: v[positions] for k, v in columns.items()} for columns in (self.numbers, self.codes))
        return Cells(numbers, codes, self.values)

    def features(self) -> Array:
        """Numbers scaled to [0, 1] and codes one-hot over sqrt 2, (N, D): another value is as far as a whole range.

        A missing number lies in the middle of its column, a missing code has no 1.
        """
        columns = []
        for numbers in self.numbers.values():
            low, high = (np.nanmin(numbers), np.nanmax(numbers)) if np.isfinite(numbers).any() else (0.0, 0.0)
            scaled = (numbers - low) / (high - low) if high > low else np.zeros(len(numbers))
            columns.append(np.nan_to_num(scaled, nan=0.5)[:, None])
        for name, codes in self.codes.items():
            hot = codes[:, None] == np.arange(len(self.values[name]))
            columns.append(hot / np.sqrt(2.0))
        return np.concatenate(columns, 1)


def cells(rows: Rows) -> Cells:
    """The feature columns: numbers as they are, text and truth values as codes.

    Raises:
        UserError: there is none.
    """
    taken = {column for role in NOT_CELLS for column in [rows.roles.get(role)] if isinstance(column, str)}
    numbers: dict[str, Array] = {}
    codes: dict[str, Array] = {}
    values: dict[str, pa.Array] = {}
    for name in rows.names:
        column = rows.table.column(name)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if name in taken or pa.types.is_nested(kind) or pa.types.is_temporal(kind):
            continue
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            numbers[name] = column.cast(pa.float64()).to_numpy().astype(np.float64)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
            found = pa.concat_arrays(column.cast(kind).chunks).dictionary_encode()
            codes[name] = pc.fill_null(found.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
            values[name] = found.dictionary
    if not numbers and not codes:
        raise UserError("these rows have no columns of numbers or categories to make new rows of")
    return Cells(numbers, codes, values)


def as_rows(made: Cells, rows: Rows, what: str, settings: Mapping[str, Any]) -> Rows:
    """New rows with the columns and roles of others, of which only the features are filled.

    Whole numbers stay whole, and numbers stay within the range that the rows have.

    Args:
        made: the cells, (M,).
        rows: they were made of.
        what: made them.
        settings: of what made them, JSON values.
    """
    columns = {}
    for entry in rows.table.schema:
        if entry.name in made.numbers:
            numbers, known = made.numbers[entry.name], rows.table.column(entry.name)
            bounds = pc.min_max(known).as_py()
            if bounds["min"] is not None:
                numbers = np.clip(numbers, bounds["min"], bounds["max"])
            whole = pa.types.is_integer(entry.type)
            array = pa.array(np.rint(numbers) if whole else numbers, mask=np.isnan(numbers), type=pa.float64())
            columns[entry.name] = array.cast(entry.type, safe=False)
        elif entry.name in made.codes:
            codes = made.codes[entry.name]
            taken = made.values[entry.name].take(pa.array(codes, mask=codes < 0))
            columns[entry.name] = taken.cast(
                entry.type.value_type if pa.types.is_dictionary(entry.type) else entry.type
            )
        else:
            columns[entry.name] = pa.nulls(len(made), entry.type)
    source = fingerprint(what, 1, rows=rows.fingerprint, settings=dict(settings))
    return Rows(pa.table(columns), np.arange(len(made), dtype=np.int64), source, rows.roles)
