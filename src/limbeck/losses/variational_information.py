"""Variational information distillation: the teacher's states are likely, given the student's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.projection import along, axis, width
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm, over_places

START = 5.0
"""Variance at the start, and the least that is added to it: of the authors' code."""
LEAST = 1e-5


def variational_information(mean: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """((teacher - mean)^2 / variance + log variance) / 2, a mean over widths.

    Args:
        mean: what the student's states foretell, in the teacher's shape: (B, D), (B, T, D) or (B, C, H, W).
        teacher: states; no gradient reaches them.
        variance: of each width, above 0, (D,) or (C,).

    Returns:
        (B, places), nats a number, less the constant log(2 pi) / 2; below 0 where the teacher is foretold well.

    Source: Ahn et al. 2019, section 2, as in their code.

    >>> variational_information(torch.tensor([[1.0]]), torch.tensor([[3.0]]), torch.tensor([1.0])).tolist()
    [[2.0]]
    """
    wrong = functional.mse_loss(mean.float(), teacher.detach().float(), reduction="none")
    spread = variance.float()
    scaled = (wrong / along(spread, wrong)).mean(axis(wrong)).reshape(len(wrong), -1)
    return 0.5 * (scaled + spread.log().mean())


class VariationalInformation(HiddenTerm, RowTerm):
    """`fit_net` that learns which of the teacher's widths can be foretold, and cares less for the others.

    It brings a small network for the mean, of three layers, and a variance for each of the teacher's widths; both
    are trained with the student and then thrown away. Usual weight 1.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Ahn et al. 2019"
    layers: ClassVar[int] = 3

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """One network and the variances of one pair."""
        super().size(student, teacher, batch)
        start = math.log(math.expm1(START - LEAST))
        widths = [width(teacher[HIDDEN + path].shape) for path in self.teacher_taps]
        self.scales = nn.ParameterList([nn.Parameter(torch.full((wide,), start)) for wide in widths])

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats, summed over pairs of parts."""
        losses = []
        for (mean, theirs), scale in zip(self.pairs(student, teacher), self.scales, strict=True):
            variance = functional.softplus(scale) + LEAST
            losses.append(over_places(variational_information(mean, theirs, variance), batch.get("mask")))
        return torch.stack(losses).sum(0)
