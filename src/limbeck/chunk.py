"""Rows that are labelled together, and whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from limbeck.errors import UserError, counted
from limbeck.types import Array, Key, Rows


@dataclass(frozen=True)
class Chunk:
    """Rows that are labelled together.

    Args:
        positions: int64, (n,), where they lie in the rows being labelled, rising.
        id: int64, (n,).
        view: int64, (n,).
        person: uint64, (n,), as `persons` gives; none where rows belong to nobody.
    """

    positions: Array
    id: Array
    view: Array
    person: Array | None = None

    def __len__(self) -> int:
        return len(self.id)

    @property
    def digest(self) -> str:
        """SHA-256 of the keys, in order."""
        return hashlib.sha256(int64(self.id).tobytes() + int64(self.view).tobytes()).hexdigest()

    def take(self, where: Array) -> Chunk:
        """Some of these rows; `where` is a mask, (n,)."""
        person = None if self.person is None else self.person[where]
        return Chunk(self.positions[where], self.id[where], self.view[where], person)

    def of(self, rows: Rows) -> Rows:
        """These rows of the rows being labelled, without copying where they are consecutive."""
        first = int(self.positions[0]) if len(self) else 0
        if len(self) and int(self.positions[-1]) - first == len(self) - 1:
            return rows.slice(first, first + len(self))
        return rows.take(self.positions)


def chunks(key: Key, *, size: int = 4096, person: Array | None = None) -> list[Chunk]:
    """Consecutive rows, `size` at a time.

    Args:
        key: of all rows to label; no pair of id and view twice.
        size: rows a shard, 1 or more; 4,096 rows of 1,000 float16 are 8 MB.
        person: uint64, (B,), as `persons` gives.

    Raises:
        UserError: a pair comes twice.
    """
    if size < 1:
        raise UserError(f"a shard of {counted(size, 'row')} is none; name 1 or more")
    refuse_twice(int64(key.id), int64(key.view))
    positions = np.arange(len(key))
    whole = Chunk(positions, int64(key.id), int64(key.view), person)
    cuts = [slice(start, start + size) for start in range(0, len(key), size)]
    return [whole.take(cut) for cut in cuts]  # type: ignore[arg-type]  # a slice is a mask that copies nothing


def refuse_twice(id: Array, view: Array) -> None:
    """Pass keys that are distinct.

    Raises:
        UserError: a pair of id and view comes twice.
    """
    order = np.lexsort((view, id))
    same = (np.diff(id[order]) == 0) & (np.diff(view[order]) == 0)
    if same.any():
        twice = ", ".join(f"id {id[i]} view {view[i]}" for i in order[1:][same][:5])
        raise UserError(
            f"{counted(int(same.sum()), 'row')} twice ({twice}); every row of a source has an id of its own"
        )


def persons(values: Sequence[Any] | Array) -> Array:
    """Whose row each is: XXH3 of the raw value's text, uint64 (B,). 7 and "7" are one person."""
    return np.fromiter((xxhash.xxh3_64_intdigest(str(v).encode()) for v in values), np.uint64, len(values))


def int64(values: Array) -> Array:
    """The same numbers as little-endian int64, end to end."""
    return np.ascontiguousarray(values, "<i8")
