"""FitNet's hints: the student's states follow the teacher's."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from limbeck.objective import HiddenRowTerm
from limbeck.projection import axis


def fit_net(student: Tensor, teacher: Tensor) -> Tensor:
    """(student - teacher)^2, a mean over widths.

    Args:
        student: states in the teacher's shape: (B, D), (B, T, D) or (B, C, H, W).
        teacher: states; no gradient reaches them.

    Returns:
        (B, places), squared units of the states.

    Source: Romero et al. 2015, equation 3, with a mean in place of half the sum, as the usual weight of 100 of
    Tian et al. 2020 supposes.

    >>> import torch
    >>> fit_net(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]])).tolist()
    [[5.0]]
    """
    apart = functional.mse_loss(student.float(), teacher.detach().float(), reduction="none")
    return apart.mean(axis(apart)).reshape(len(apart), -1)


class FitNet(HiddenRowTerm):
    """The plainest loss on states, and the first to try; usual weight 100 for pictures.

    Where only directions matter, as for embeddings that are compared by cosine, take `cosine_embedding`; for several
    layers of a transformer `tiny_bert`.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Romero et al. 2015"

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared units a place."""
        return fit_net(student, teacher)
