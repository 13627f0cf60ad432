"""Losses of signals with steps: each step that counts is a row of its own, and a row's steps are summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from limbeck.errors import UserError

MASK = "mask"
"""The name, in a batch, of the truth values (B, T) that say which steps count; without it all do."""


def by_step(
    loss: Callable[..., Tensor], tensors: Sequence[Tensor], batch: Mapping[str, Tensor], *, axes: int = 1
) -> tuple[Tensor, Tensor]:
    """What each row loses over its steps, and how many these are.

    Steps that do not count are left out before anything is computed, so nothing at a padded place, be it
    NaN, can spoil a gradient.

    Args:
        loss: of N rows, (N, ...) tensors -> (N,).
        tensors: all (B, ...), or all (B, T, ...).
        batch: may hold `mask` (B, T).
        axes: of the first tensor, beside those of rows and steps.

    Returns:
        Losses (B,), summed over steps, and counts (B,), as a row's loss and count are given to an objective.

    Raises:
        UserError: the tensors differ in their steps, or the mask has others.

    >>> by_step(lambda z: z[:, 0], [torch.ones(2, 3, 1)], {"mask": torch.tensor([[1, 1, 0], [1, 0, 0]])})
    (tensor([2., 1.]), tensor([2, 1]))
    """
    rows, owner = flat(tensors, batch, axes=axes)
    losses = loss(*rows)
    if tensors[0].ndim <= axes + 1:
        return losses, torch.ones_like(losses)
    sums = losses.new_zeros(len(tensors[0])).index_add(0, owner, losses)
    return sums, owner.bincount(minlength=len(sums))


def flat(tensors: Sequence[Tensor], batch: Mapping[str, Tensor], *, axes: int = 1) -> tuple[Sequence[Tensor], Tensor]:
    """The steps that count as rows of their own, (N, ...) each, and the row that each belongs to, (N,).

    Args:
        tensors: all (B, ...), or all (B, T, ...).
        batch: may hold `mask` (B, T).
        axes: of the first tensor, beside those of rows and steps.

    Raises:
        UserError: the tensors differ in their steps, or the mask has others.
    """
    first = tensors[0]
    every = torch.arange(len(first), device=first.device)
    if first.ndim <= axes + 1:
        return tensors, every
    found = {tuple(tensor.shape[:2]) for tensor in tensors}
    if first.ndim != axes + 2 or len(found) > 1:
        raise UserError(
            f"rows and steps are {sorted(found)}; student and teacher must tell the same steps, (B, T, ...)"
        )
    if MASK not in batch:
        return [tensor.flatten(0, 1) for tensor in tensors], every.repeat_interleave(first.shape[1])
    there = batch[MASK].bool()
    if there.shape != first.shape[:2]:
        raise UserError(f"'{MASK}' in the batch has shape {tuple(there.shape)}, the steps {tuple(first.shape[:2])}")
    return [tensor[there] for tensor in tensors], there.nonzero()[:, 0]
