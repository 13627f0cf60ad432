"""From keys (id, view) to row numbers, for many keys at once."""

from __future__ import annotations

import numpy as np

from limbeck.types import Array

_SPARSE = 8
"""A table over the whole span of values is kept while it holds at most this many places a value."""


class Ranks:
    """The rank of a value among sorted, distinct int64 values.

    Args:
        values: int64, (N,), rising strictly.
    """

    def __init__(self, values: Array) -> None:
        self.values = values
        self.low, self.high = (int(values[0]), int(values[-1])) if len(values) else (0, -1)
        span = self.high - self.low + 1
        self.gapless = span == len(values)
        self.table: Array | None = None
        if not self.gapless and span <= _SPARSE * len(values) + 1024:
            self.table = np.full(span, -1, np.int32 if len(values) < 2**31 else np.int64)
            self.table[values - self.low] = np.arange(len(values))

    def __call__(self, query: Array) -> Array:
        """Ranks, int64 (n,); -1 where a value is not among them."""
        inside = (query >= self.low) & (query <= self.high)
        if not inside.all():
            ranks = np.full(len(query), -1, np.int64)
            ranks[inside] = self(query[inside])
            return ranks
        if self.gapless:
            return query - self.low
        if self.table is not None:
            return self.table[query - self.low].astype(np.int64)
        ranks = np.searchsorted(self.values, query)
        return np.where(self.values[ranks] == query, ranks, -1)


class KeyIndex:
    """Row numbers by key. Of several rows with one key the first is meant.

    Args:
        id: int64, (N,).
        view: int64, (N,).
    """

    def __init__(self, id: Array, view: Array) -> None:
        self.id = Ranks(_distinct(id))
        self.view = Ranks(_distinct(view))
        pairs = self._pairs(id, view)
        self.first: Array | None = None
        if not _rising(pairs):
            self.first = np.argsort(pairs, kind="stable")
            self.first = self.first[_new(pairs[self.first])]
            pairs = pairs[self.first]
        self.pairs = Ranks(pairs)

    def _pairs(self, id: Array, view: Array) -> Array:
        ids = self.id(id)
        if len(self.view.values) == 1 and (view == self.view.low).all():
            return ids
        views = self.view(view)
        return np.where((ids < 0) | (views < 0), -1, ids * len(self.view.values) + views)

    def rows(self, id: Array, view: Array) -> Array:
        """Row numbers, int64 (n,); -1 for an unknown key."""
        ranks = self.pairs(self._pairs(id, view))
        if self.first is None:
            return ranks
        return np.where(ranks < 0, -1, self.first[ranks])


def _rising(values: Array) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _distinct(values: Array) -> Array:
    # np.unique hashes whole numbers, at a tenth of the speed where one value fills the array.
    if _rising(values):
        return values
    values = np.sort(values)
    return values[_new(values)]


def _new(values: Array) -> Array:
    """Where sorted values differ from the one before."""
    return np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]])
