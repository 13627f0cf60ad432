"""Losses of signals with steps: each step that counts is a row of its own, and a row's steps are summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.term import RowTerm, every

MASK = "mask"
"""The name, in a batch, of the truth values (B, T) that say which steps count; without it all do."""


class StepTerm(RowTerm):
    """A loss of a signal that may have steps: a row counts for as many as the batch's `mask` leaves it.

    Whether it has them is seen when the term is sized, so that a live teacher need not answer before its turn only
    to show the shape of its answers.
    """

    signal: str
    stepped: bool | None = None

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """See whether the teacher's signal has steps."""
        if self._signal(teacher) in teacher:
            self.stepped = self._has_steps(teacher)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The steps of each row that count; 1 where all do, or there are none."""
        if MASK in batch and (self._has_steps(teacher) if self.stepped is None else self.stepped):
            return steps_of(batch)
        return every(teacher, batch)

    def _has_steps(self, teacher: Mapping[str, Tensor]) -> bool:
        return teacher[self._signal(teacher)].ndim > 2

    def _signal(self, teacher: Mapping[str, Tensor]) -> str:
        return f"{self.signal}.ids" if f"{self.signal}.ids" in teacher else self.signal


def steps_of(batch: Mapping[str, Tensor]) -> Tensor:
    """How many steps of each row the `mask` of a batch lets count, (B,)."""
    return batch[MASK].bool().sum(1)


def by_step(
    loss: Callable[..., Tensor], tensors: Sequence[Tensor], batch: Mapping[str, Tensor], *, axes: int = 1
) -> Tensor:
    """What each row loses over its steps: where a mask says which of them count their sum, else their mean.

    So the mean over rows that count for their steps by a mask, and else for 1, is the mean over steps.

    Steps that do not count are left out before anything is computed, so nothing at a padded place, be it
    NaN, can spoil a gradient.

    Args:
        loss: of N rows, (N, ...) tensors -> (N,).
        tensors: all (B, ...), or all (B, T, ...).
        batch: may hold `mask` (B, T).
        axes: of the first tensor, beside those of rows and steps.

    Returns:
        (B,).

    Raises:
        UserError: the tensors differ in their steps, or the mask has others.

    >>> by_step(lambda z: z[:, 0], [torch.ones(2, 3, 1)], {"mask": torch.tensor([[1, 1, 0], [1, 0, 0]])})
    tensor([2., 1.])
    """
    rows, owner = flat(tensors, batch, axes=axes)
    losses = loss(*rows)
    if tensors[0].ndim <= axes + 1:
        return losses
    if MASK not in batch:
        return losses.reshape(tensors[0].shape[:2]).mean(1)
    return losses.new_zeros(len(tensors[0])).index_add(0, owner, losses)


def negative_log_likelihood(logits: Tensor, ids: Tensor) -> Tensor:
    """-log softmax of the id at each step, summed over the steps that have one.

    Args:
        logits: raw, (B, T, V).
        ids: (B, T), below 0 where there is none.

    Returns:
        (B,), nats.

    >>> round(negative_log_likelihood(torch.zeros(1, 3, 4), torch.tensor([[2, 0, -1]])).item(), 4)  # twice log 4
    2.7726
    """
    there = ids >= 0
    if bool(there.all()):  # then nothing need be gathered
        losses = functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten().long(), reduction="none")
        return losses.view(ids.shape).sum(1)
    # Only steps that count are computed, so that nothing at a padded place can spoil a gradient.
    losses = functional.cross_entropy(logits[there].float(), ids[there].long(), reduction="none")
    return losses.new_zeros(len(ids)).index_add(0, there.nonzero()[:, 0], losses)


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
