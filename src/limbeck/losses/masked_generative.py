"""Masked generative distillation: from some of the student's places, all of the teacher's are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.projection import width
from limbeck.setting import share
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm


def masked_generative(
    student: Tensor, teacher: Tensor, *, seen: Tensor, generate: Callable[[Tensor], Tensor]
) -> Tensor:
    """(generate(seen * student) - teacher)^2, summed.

    Args:
        student: states in the teacher's shape, channels first: (B, C, T) or (B, C, H, W).
        teacher: states; no gradient reaches them.
        seen: 1 where a place is shown and 0 where it is hidden, (T,) or (H, W), alike for all rows.
        generate: to the teacher's shape, and sees a place's neighbours.

    Returns:
        (B,), squared units of the states, a sum over places and widths.

    Source: Yang et al. 2022 (ECCV), section 3, as in their code but for the mask, which there is drawn for each row.

    >>> import torch
    >>> first = torch.tensor([1.0, 0.0])
    >>> masked_generative(torch.ones(1, 1, 2), torch.ones(1, 1, 2), seen=first, generate=lambda x: 3 * x).item()
    5.0
    """
    return (generate(seen * student).float() - teacher.detach().float()).square().flatten(1).sum(1)


class MaskedGenerative(HiddenTerm, RowTerm):
    """For dense tasks, such as detection, where places explain one another; usual weight 0.00002.

    Which places are hidden is drawn anew for each batch, alike for all its rows, so that what a row loses does not
    hang on where it stands. The small network that makes the rest stays behind after training.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, T, D) or (B, C, H, W) | student, teacher |

    Args:
        masked: share of the places that are hidden, below 1.
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Yang et al. 2022"
    placed: ClassVar[bool] = True

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], masked: float = 0.65) -> None:
        super().__init__(student=student, teacher=teacher)
        self.masked = share("masked", masked)

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """A projection and a generator a pair."""
        super().size(student, teacher, batch)
        self.generators = nn.ModuleList()
        for path in self.teacher_taps:
            shape = teacher[HIDDEN + path].shape
            layer, wide = nn.Conv2d if len(shape) == 4 else nn.Conv1d, width(shape)
            self.generators.append(
                nn.Sequential(layer(wide, wide, 3, padding=1), nn.ReLU(), layer(wide, wide, 3, padding=1))
            )

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Squared units a row, summed over pairs of parts."""
        losses = []
        for pair, generate in zip(self.pairs(student, teacher), self.generators, strict=True):
            mine, theirs = (states.transpose(1, 2) if states.ndim == 3 else states for states in pair)
            seen = (torch.rand(mine.shape[2:], device=mine.device) >= self.masked).to(mine.dtype)
            losses.append(masked_generative(mine, theirs, seen=seen, generate=generate))
        return torch.stack(losses).sum(0)
