"""Requests that are nobody's row: tensors made up within the ranges that training rows' tensors have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.picture import blank
from limbeck.types import Array, Batch, Key, Lists

if TYPE_CHECKING:
    from limbeck.artifact import Column


class Requests:
    """Makes up requests, and knows which axes are free.

    An axis besides the first is free where the encoder pads: it says so, or an empty row's tensor is
    shorter than training rows'.

    Args:
        encoder: whose tensors these are.
        columns: the raw columns it reads.
        known: its tensors of training rows, of which only ranges and lengths are kept.
    """

    def __init__(self, encoder: Encoder, columns: Sequence[Column], known: Mapping[str, Array]) -> None:
        self.empty = encoder(empty(columns, 2))
        if set(known) != set(self.empty):
            raise UserError(f"calibration has the tensors {sorted(known)}, the encoder makes {sorted(self.empty)}")
        if min(len(value) for value in known.values()) < 2:
            raise UserError("calibration needs at least 2 rows; some hundred are better")
        padded = {name for group in encoder.padded for name in group}
        self.free = {
            (name, axis)
            for name, value in known.items()
            for axis in range(1, value.ndim)
            if value.shape[axis] != self.empty[name].shape[axis] or (axis == 1 and name in padded)
        }
        self.shapes = {name: value.shape[1:] for name, value in known.items()}
        self.ranges = {name: (value.min(initial=0), value.max(initial=0)) for name, value in known.items()}
        self.dtypes = {name: value.dtype for name, value in known.items()}

    def __call__(self, rows: int, length: int, *, seed: int = 0) -> dict[str, Array]:
        """Tensors by name, equal for equal arguments.

        Args:
            rows: B.
            length: of the free axes, as far as the encoder makes them so long or so short.
            seed: of the numbers.
        """
        generator = np.random.default_rng([seed, rows, length])
        share = generator.uniform(size=rows)  # a row fills the same share of all its tensors
        return {name: self._tensor(name, length, share, generator) for name in self.shapes}

    def _tensor(self, name: str, length: int, share: Array, generator: np.random.Generator) -> Array:
        low, high = self.ranges[name]
        shape = [len(share), *self.shapes[name]]
        for axis in range(1, len(shape)):
            if (name, axis) in self.free:
                shape[axis] = max(self.empty[name].shape[axis], min(max(shape[axis], 2), length))
        if self.dtypes[name].kind == "f":
            return generator.uniform(low, high, shape).astype(self.dtypes[name])
        if len(shape) == 1 or self.dtypes[name] == np.uint8:  # bytes are pixels, never padded ids
            return generator.integers(int(low), int(high), shape, endpoint=True).astype(self.dtypes[name])
        ids = generator.integers(min(1, int(high)), int(high), shape, endpoint=True)
        filled = np.arange(shape[1]) <= (share * shape[1]).astype(np.int64)[:, None]
        # As encoders pad: ids from 1 first, then 0 to the end.
        padded = ids * filled.reshape(*filled.shape, *[1] * (len(shape) - 2))
        return np.asarray(padded.astype(self.dtypes[name]))


def empty(columns: Sequence[Column], rows: int) -> Batch:
    """Rows that say nothing: empty text, empty lists, zeros, pictures of one white pixel."""
    said = {column.name: _nothing(column, rows) for column in columns}
    return Batch(said, Key("empty", np.arange(rows), np.zeros(rows, np.int64)))


def _nothing(column: Column, rows: int) -> Array | list[str] | list[bytes] | Lists:
    if column.many:
        return Lists.of([[]] * rows)
    if column.type == "picture":
        return [blank()] * rows
    if column.type == "text":
        return [""] * rows
    return np.zeros(rows, {"number": np.float64, "boolean": np.bool_}.get(column.type, np.int64))
