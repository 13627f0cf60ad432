"""Hashed n-grams beside the units (tokens or characters) they are made of, as ids of one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck import parts
from limbeck.encoder import PAD, Encoding
from limbeck.errors import UserError
from limbeck.types import Array, fingerprint

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xBF58476D1CE4E5B9)


class Ngrams:
    """Ids of units and of their n-grams.

    Units keep their ids; the n-grams that begin at a unit follow it, in `len(of)` to
    `len(of) + buckets - 1`. N-grams that share a bucket share a vector. A unit at the end, where no
    n-gram begins, is followed by padding: who pools must mask every 0, not only those at the end.

    Args:
        of: an encoding with `ids` of its own, 0 padding and `len(of)` ids: `Tokens`, `Characters`.
        orders: the lengths of the n-grams, each 2 or more.
        buckets: how many ids the n-grams share.
    """

    kind = "ngrams"

    def __init__(self, of: Any, *, orders: Sequence[int] = (2,), buckets: int = 20_000) -> None:
        if buckets < 1:
            raise UserError(f"buckets is {buckets}; it must be at least 1")
        if not orders or min(orders) < 2:
            raise UserError(f"orders is {list(orders)}; n-grams have 2 units or more (single units are always there)")
        self.of = of
        self.column: str = of.column
        self.orders = tuple(orders)
        self.buckets = buckets
        self.padded = ("ids",)

    def __len__(self) -> int:
        """Rows an embedding table needs, the reserved ids included."""
        return len(self.of) + self.buckets

    def __call__(self, column: Sequence[str]) -> dict[str, Array]:
        """`ids`, int64 (B, L * (1 + number of orders))."""
        units = self.of(column)["ids"]
        layers = [units, *(self._hashed(units, order) for order in self.orders)]
        return {"ids": np.stack(layers, axis=2).reshape(len(units), units.shape[1] * len(layers))}

    def _hashed(self, units: Array, order: int) -> Array:
        """The bucket of the n-gram that begins at each unit, as an id; 0 where none does. Int64 (B, L)."""
        length = units.shape[1]
        after = np.concatenate([units, np.full((len(units), order - 1), PAD, np.int64)], axis=1)
        code = np.full(units.shape, order, np.uint64)
        for step in range(order):
            # Products wrap around, which is what a hash wants.
            code = (code ^ after[:, step : step + length].astype(np.uint64)) * _MULTIPLIER
            code ^= code >> np.uint64(29)
        code = code * _MIXER
        code ^= code >> np.uint64(32)
        bucket = (code % np.uint64(self.buckets)).astype(np.int64) + len(self.of)
        return np.where(after[:, order - 1 :] == PAD, PAD, bucket)

    @property
    def fingerprint(self) -> str:
        """Of the units and the hashing."""
        return fingerprint("ngrams", 1, of=self.of.fingerprint, orders=self.orders, buckets=self.buckets)

    def save(self, folder: Path) -> dict[str, Any]:
        """The files of the encoding it is made of."""
        of = {"kind": self.of.kind, "settings": self.of.save(folder)}
        return {"of": of, "orders": self.orders, "buckets": self.buckets}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Ngrams:
        """Read what `save` wrote."""
        of: Encoding = parts.get("encoders", settings["of"]["kind"]).load(folder, settings["of"]["settings"])
        return cls(of, orders=settings["orders"], buckets=settings["buckets"])
