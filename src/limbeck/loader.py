"""Batches: a fixed source's tensors, computed once and gathered by position; or what any loader yields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.types import Array

PADDING = {"targets": -1}
"""Position 0 is an item in targets, which are padded with -1; ids of encoders are padded with 0."""


class TableLoader:
    """Shuffled batches of tensors, without per-row Python.

    The order is a function of (seed, epoch) alone, so a run can go on from any step. Every process of
    several takes its own share of each batch; one that gets none of a short last batch has one of its rows, with
    `weight` 0, so that no row counts twice.

    Args:
        tensors: name -> (N, ...); `id` and `view` are added from the arguments.
        id: int64 (N,); the rows' keys.
        batch_size: rows a step sees over all processes.
        seed: of the order.
        view: int64 (N,), 0 by default.
        padded: groups of tensors padded alike, on the right, cut together to their first's longest row
            of a batch.
        bucket: group rows of like length, by the first padded tensor.
    """

    def __init__(
        self,
        tensors: Mapping[str, Array],
        id: Array,
        *,
        batch_size: int,
        seed: int = 0,
        view: Array | None = None,
        padded: Sequence[tuple[str, ...]] = (),
        bucket: bool = False,
    ) -> None:
        if len(id) == 0:
            raise UserError("there are no rows to train on")
        self.tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
        self.tensors["id"] = torch.from_numpy(np.ascontiguousarray(id))
        self.tensors["view"] = torch.zeros(len(id), dtype=torch.int64) if view is None else torch.from_numpy(view)
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = {tuple(group): _lengths(self.tensors[group[0]], PADDING.get(group[0], 0)) for group in padded}
        if bucket and not self.lengths:
            raise UserError("training.bucket groups rows by length, but this model reads no sequence; leave it out")
        self.bucket = bucket
        self.process, self.processes = 0, 1

    def __len__(self) -> int:
        """Steps an epoch."""
        return math.ceil(len(self.tensors["id"]) / self.batch_size)

    def order(self, epoch: int) -> Tensor:
        """The positions of an epoch, (N,)."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = generator.permutation(len(self.tensors["id"]))
        if not self.bucket:
            return torch.from_numpy(order)
        # Sorted inside windows of many batches: like lengths meet, and the order stays random.
        window = self.batch_size * 32
        length = next(iter(self.lengths.values())).numpy()
        pieces = [order[i : i + window] for i in range(0, len(order), window)]
        flat = np.concatenate([p[np.argsort(length[p], kind="stable")] for p in pieces])
        batches = [flat[i : i + self.batch_size] for i in range(0, len(flat), self.batch_size)]
        full, rest = batches[: len(flat) // self.batch_size], batches[len(flat) // self.batch_size :]
        shuffled = [full[i] for i in generator.permutation(len(full))]
        return torch.from_numpy(np.concatenate(shuffled + rest))

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch from a step on; padded tensors are cut to their longest row."""
        order = self.order(epoch)
        for step in range(start, len(self)):
            whole = order[step * self.batch_size : (step + 1) * self.batch_size]
            if self.process < len(whole):
                yield self.gather(whole[self.process :: self.processes])
            else:  # a mean needs a row, but one that another process has must not count here too
                yield {**self.gather(whole[:1]), "weight": torch.zeros(1)}

    def gather(self, positions: Tensor) -> dict[str, Tensor]:
        """The rows at these positions."""
        batch = {name: tensor.index_select(0, positions) for name, tensor in self.tensors.items()}
        for group, lengths in self.lengths.items():
            width = max(1, int(lengths.index_select(0, positions).max()))
            batch.update({name: batch[name][:, :width] for name in group})
        return batch


def _lengths(padded: Tensor, padding: int) -> Tensor:
    """Places up to the last that is not padding, (N,)."""
    places = torch.arange(1, padded.shape[1] + 1)
    return ((padded != padding) * places).amax(1)


def batches_of(loader: Any, epoch: int) -> Iterator[Any]:
    """What any loader yields in an epoch."""
    if isinstance(loader, TableLoader):
        return loader.batches(epoch)
    if hasattr(getattr(loader, "sampler", None), "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return iter(loader)


def parts_of(batch: Mapping[str, Tensor], count: int) -> list[Mapping[str, Tensor]]:
    """A batch in `count` parts, of as many rows each as can be; of fewer rows, as many parts."""
    rows = len(next(iter(batch.values())))
    count = min(count, rows)
    if count <= 1:
        return [batch]
    edges = [rows * i // count for i in range(count + 1)]
    return [{name: value[a:b] for name, value in batch.items()} for a, b in pairwise(edges)]


def count_of(loader: Any) -> int:
    """Batches an epoch.

    Raises:
        UserError: the loader does not say, or has none.
    """
    try:
        count = len(loader)
    except TypeError:
        raise UserError("the loader has no length; give it a __len__ that says how many batches an epoch has") from None
    if not count:
        raise UserError("the loader has no batches")
    return count
