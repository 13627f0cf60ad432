"""Relational distillation: rows lie to one another as they do for the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.setting import at_least_zero
from limbeck.term import HiddenTerm

NEAR = 1e-5
"""Rows whose squared distance is below this share of their squared lengths count as one."""


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber(d(student), d(teacher)), d the distances between rows, divided by their mean.

    Args:
        student: states, (B, ...), of any width.
        teacher: states, (B, ...); no gradient reaches them.

    Returns:
        Scalar, mean over B x B pairs; 0 for a single row.

    Source: Park et al. 2019, the distance-wise loss.

    >>> relational_distance(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [10.0], [20.0]])).item()
    0.0
    """
    return functional.smooth_l1_loss(_distances(student), _distances(teacher.detach()))


def relational_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber(a(student), a(teacher)), a the cosine of the angle at each row between every two others.

    Takes memory for B^3 + B^2 D numbers; a batch of 256 rows of 768 needs about 0.3 GB, several times over.

    Args:
        student: states, (B, ...), of any width.
        teacher: states, (B, ...); no gradient reaches them.

    Returns:
        Scalar, mean over B x B x B triples; 0 for one row or two.

    Source: Park et al. 2019, the angle-wise loss.

    >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(relational_angle(corner, 3 * corner).item(), 6)
    0.0
    """
    return functional.smooth_l1_loss(_angles(student), _angles(teacher.detach()))


def _distances(states: Tensor) -> Tensor:
    flat = states.float().flatten(1)
    flat = flat - flat.mean(0)
    products = flat @ flat.T
    lengths = products.diagonal()
    both = lengths + lengths.unsqueeze(1)
    square = both - 2 * products
    # Below this a difference of products is rounding alone, and so would be the root's endless gradient.
    near = square <= NEAR * both
    apart = torch.where(near, 0.0, torch.where(near, 1.0, square).sqrt())
    mean = apart.sum() / (~near).sum().clamp(min=1)
    return apart / torch.where(mean > 0, mean, 1.0)


def _angles(states: Tensor) -> Tensor:
    flat = states.float().flatten(1)
    towards = functional.normalize(flat.unsqueeze(0) - flat.unsqueeze(1), dim=2)
    return torch.bmm(towards, towards.transpose(1, 2))


class Relational(HiddenTerm):
    """For embeddings whose neighbourhoods matter: search, retrieval, metric learning. Needs no projection. Of texts
    tap pooled states, for padding would count.

    `similarity_preserving` and `probabilistic_transfer` compare the same pairs by angle alone, at less cost.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |

    Args:
        distance: weight of the distances.
        angle: weight of the angles; 0 saves their memory, which grows with the cube of the batch.
    """

    group: ClassVar[str] = "relation"
    paper: ClassVar[str] = "Park et al. 2019"
    projected: ClassVar[bool] = False

    def __init__(
        self,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        distance: float = 25.0,
        angle: float = 50.0,
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.distance = at_least_zero("distance", distance)
        self.angle = at_least_zero("angle", angle)
        if not distance + angle > 0:
            raise UserError("distance and angle are both 0; one of them must be above")

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, summed over pairs of parts."""
        losses = []
        for mine, theirs in self.pairs(student, teacher):
            if self.distance > 0:
                losses.append(self.distance * relational_distance(mine, theirs))
            if self.angle > 0:
                losses.append(self.angle * relational_angle(mine, theirs))
        return torch.stack(losses).sum()
