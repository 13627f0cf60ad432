"""FitNet's hints: the student's states follow the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.projection import Resized, axis, width
from limbeck.slope import sloped, wide
from limbeck.term import HiddenRowTerm


def fit_net(student: Tensor, teacher: Tensor) -> Tensor:
    """(student - teacher)^2, a mean over widths.

    Args:
        student: states in the teacher's shape: (B, D), (B, T, D) or (B, C, H, W).
        teacher: states; no gradient reaches them.

    Returns:
        (B, places), squared units of the states.

    Source: Romero et al. 2015, equation 3, with a mean in place of half the sum, as the usual weight of 100 of
    Tian et al. 2020 supposes.

    >>> fit_net(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]])).tolist()
    [[5.0]]
    """
    widths = axis(student)
    halves = sloped(_half_square, axis=widths)(student, teacher).reshape(len(student), -1)
    return 2 / student.shape[widths] * halves


def _half_square(student: Tensor, teacher: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    apart = wide(student) - wide(teacher)
    if apart.ndim == 4:  # along an inner axis torch's norm takes three times as long as a product and its sum
        return torch.linalg.vecdot(apart, apart, dim=1) / 2, lambda: apart
    return torch.linalg.vector_norm(apart, dim=-1).square() / 2, lambda: apart


class FitNet(HiddenRowTerm):
    """The plainest loss on states, and the first to try; usual weight 100 for pictures.

    Where only directions matter, as for embeddings that are compared by cosine, take `cosine_embedding`; for several
    layers of a transformer `tiny_bert`.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |

    Args:
        project: map the student's states first; without, they must be as wide as the teacher's, as those of the
            model `borrowed_classifier` are, whose projection is its own.
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Romero et al. 2015"

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], project: bool = True) -> None:
        super().__init__(student=student, teacher=teacher)
        self.project = project

    def _projection(self, student: Sequence[int], teacher: Sequence[int]) -> nn.Module:
        if self.project:
            return super()._projection(student, teacher)
        if width(student) != width(teacher):
            raise UserError(f"the student's states have width {width(student)} and the teacher's {width(teacher)}")
        return Resized()

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared units a place."""
        return fit_net(student, teacher)
