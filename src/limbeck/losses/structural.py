"""Structural distillation: regions of a picture that are alike to the teacher are alike to the student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from limbeck.setting import one_or_more
from limbeck.term import HiddenRowTerm


def structural(student: Tensor, teacher: Tensor, *, cells: int = 2) -> Tensor:
    """(a_ij - b_ij)^2, mean over pairs of regions, a and b the cosines of their greatest states.

    Args:
        student: maps, (B, C, H, W), of any width and size.
        teacher: maps, (B, C', H', W'); no gradient reaches them.
        cells: regions a side, so that there are cells^2.

    Returns:
        (B,), in [0, 4].

    Source: Liu et al. 2019 (structured knowledge distillation), equation 2, with regions of half a side as in
    the authors' code, which holds the lengths constant in the gradient; here they are not.

    >>> import torch
    >>> same, other = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    >>> round(structural(same, other, cells=1).item(), 6)  # one region is like itself
    0.0
    """
    return (_likeness(student, cells) - _likeness(teacher.detach(), cells)).square().mean((1, 2))


def _likeness(maps: Tensor, cells: int) -> Tensor:
    regions = functional.normalize(functional.adaptive_max_pool2d(maps.float(), cells).flatten(2), dim=1)
    return regions.transpose(1, 2) @ regions


class Structural(HiddenRowTerm):
    """For segmentation: how regions relate, beside `pixel_kl`, which tells each its class; usual weights 1 and 10.

    It needs no projection: maps may differ in width and size.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, C, H, W) | student, teacher |

    Args:
        cells: regions a side; more look at smaller ones, at a cost of cells^4.
    """

    group: ClassVar[str] = "detection"
    paper: ClassVar[str] = "Liu et al. 2019"
    pictured: ClassVar[bool] = True
    projected: ClassVar[bool] = False

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], cells: int = 2) -> None:
        super().__init__(student=student, teacher=teacher)
        self.cells = one_or_more("cells", cells)

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared difference of cosines a row."""
        return structural(student, teacher, cells=self.cells)
