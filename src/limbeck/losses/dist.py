"""DIST: the student's probabilities correlate with the teacher's, along each row and along each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import tempered
from limbeck.setting import above_zero, at_least_zero
from limbeck.term import Term


def dist(
    student: Tensor, teacher: Tensor, *, row_weight: float = 1.0, class_weight: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """B mean_i(1 - rho(q_i, p_i)) + g mean_c(1 - rho(q_:c, p_:c)), rho Pearson's, p and q softmax at temperature T.

    Args:
        student: raw logits of q, (B, C).
        teacher: raw logits of p, (B, C); -inf is a class the teacher rules out; no gradient reaches them.
        row_weight: b >= 0, of the relations between classes within a row.
        class_weight: g >= 0, of the relations between rows within a class.
        temperature: T > 0.

    Returns:
        Scalar, without unit, in [0, 2 (b + g)]. Rows and classes in which the teacher's probabilities are all
        equal, as in a batch of one row, have no relation to teach: they count as 0.

    Source: Huang et al. 2022 (DIST), section 4. The authors' code multiplies by T^2; Pearson's correlation is
    blind to scale, so its gradient keeps its size over T without (at their T = 1 it is the same). They also add
    1e-8 below the fraction, which silences rare classes; here these count as the formula says.

    >>> dist(torch.tensor([[0.0, 9.0], [9.0, 0.0]]), torch.tensor([[0.0, 5.0], [5.0, 0.0]])).abs().item() < 1e-6
    True
    """
    p = torch.softmax(tempered(teacher.detach(), temperature), 1)
    q = torch.softmax(tempered(student, temperature), 1)
    return row_weight * _distance(q, p, 1).mean() + class_weight * _distance(q, p, 0).mean()


def _distance(mine: Tensor, theirs: Tensor, axis: int) -> Tensor:
    """1 - Pearson's correlation along an axis."""
    means = [x.mean(axis, keepdim=True) for x in (mine, theirs)]
    mine, theirs = mine - means[0], theirs - means[1]
    lengths = [torch.linalg.vector_norm(x, dim=axis, keepdim=True) for x in (mine, theirs)]
    # Divided one by one: the product of two small lengths would underflow.
    correlation = torch.linalg.vecdot(mine, theirs / lengths[1].clamp(min=1e-20), dim=axis)
    correlation = correlation / lengths[0].squeeze(axis).clamp(min=1e-20)
    varied = (lengths[1] > 1e-6 * theirs.shape[axis] ** 0.5 * means[1].abs()).squeeze(axis)
    return torch.where(varied, 1 - correlation, 0.0)


class Dist(Term):
    """For a teacher much stronger than its student: relations are matched, not the probabilities as in `kl`.

    What the student says is then no calibrated probability: keep a hard loss beside it. It compares the rows of a
    batch, so their `weight` is not read, and the batch should hold several rows of each class.

    | reads | from |
    |---|---|
    | `logits` (B, C) | student, teacher |

    Args:
        row_weight: of the relations between classes within a row.
        class_weight: of the relations between rows within a class.
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Huang et al. 2022"

    def __init__(
        self, *, row_weight: float = 1.0, class_weight: float = 1.0, temperature: float = 1.0, signal: str = "logits"
    ) -> None:
        super().__init__()
        self.row_weight = at_least_zero("row_weight", row_weight)
        self.class_weight = at_least_zero("class_weight", class_weight)
        self.temperature = above_zero("temperature", temperature)
        self.signal = signal

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar."""
        return dist(
            student[self.signal],
            teacher[self.signal],
            row_weight=self.row_weight,
            class_weight=self.class_weight,
            temperature=self.temperature,
        )

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's distribution (B, C), not softened, at which the loss is 0."""
        return torch.softmax(teacher[self.signal].float(), 1) if self.signal in teacher else None
