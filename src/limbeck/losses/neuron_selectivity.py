"""Neuron selectivity transfer: the student's channels are spread over places as the teacher's are."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.projection import by_place, pooled
from limbeck.term import HiddenRowTerm


def neuron_selectivity(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean k(s, s') + mean k(t, t') - 2 mean k(s, t) over channels s of the student and t of the teacher.

    A channel is what it says at all places, of length 1, and k(x, y) = (x . y)^2: the squared maximum mean
    discrepancy of the two sets of channels.

    Args:
        student: states (B, T, D) or (B, C, H, W), of any width.
        teacher: states of as many places, or pictures of another size, the larger being averaged down to the
            smaller; no gradient reaches them.

    Returns:
        (B,), 0 or more.

    Source: Huang and Wang 2017, with their polynomial kernel (d 2, c 0).

    >>> import torch
    >>> neuron_selectivity(torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])).item()
    2.0
    """
    mine, theirs = (_channels(states) for states in pooled(student.float(), teacher.detach().float()))
    return _kernel(mine, mine) + _kernel(theirs, theirs) - 2 * _kernel(mine, theirs)


def _channels(states: Tensor) -> Tensor:
    return functional.normalize(by_place(states).transpose(1, 2), dim=2)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a, b.transpose(1, 2)).square().mean((1, 2))


class NeuronSelectivity(HiddenRowTerm):
    """Which patterns over places there are, not which channel has which: no projection is needed; usual weight 50.

    `attention_transfer` asks for the sum of these patterns alone; `inter_channel` for which go together.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, T, D) or (B, C, H, W) | student, teacher |
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Huang and Wang 2017"
    projected: ClassVar[bool] = False
    placed: ClassVar[bool] = True

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared discrepancy a row."""
        return neuron_selectivity(student, teacher)
