"""Pairwise hinge: of two items the student keeps at least as much apart as the teacher does."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from limbeck.candidate import ListTerm, at, best, others
from limbeck.setting import above_zero, one_or_more


def pairwise_hinge(student: Tensor, teacher: Tensor, *, top: int = 20, sampled: int = 40, scale: float = 1.0) -> Tensor:
    """Mean over pairs (i above j by the teacher) of max(0, scale * (t_i - t_j) - (s_i - s_j)).

    Pairs are of two of the teacher's best items, or of one of these and one of the others.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M); -inf where an item is left out; no gradient reaches them.
        top: how many of the best, 1 or more.
        sampled: how many of the others, drawn evenly at every call, 1 or more.
        scale: student's units for one of the teacher's, above 0.

    Returns:
        (B,), in units of the student's scores; 0 for a row without a pair.

    Source: the ranking hinge of Joachims 2002 with the teacher's gap as margin in place of 1. It has the minima
    of Margin-MSE, and more: a student that keeps items further apart than asked loses nothing.

    >>> pairwise_hinge(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])).item()
    2.0
    """
    theirs = teacher.detach().float()
    first = best(theirs, top)
    places = torch.cat([first, others(theirs, first, sampled)], 1)
    there = places >= 0
    # By how far the student falls short is a difference of differences: of one number an item.
    slack = scale * at(theirs, places).masked_fill(~there, 0.0) - at(student, places)
    above = torch.ones(first.shape[1], places.shape[1], dtype=torch.bool, device=slack.device).triu(1)
    pair = above & (first >= 0).unsqueeze(2) & there.unsqueeze(1)
    short = torch.relu(slack[:, : first.shape[1], None] - slack[:, None])
    return torch.where(pair, short, 0.0).sum((1, 2)) / pair.sum((1, 2)).clamp(min=1)


class PairwiseHinge(ListTerm):
    """For a student that may be surer than its teacher; prefer `margin_mse` where the widths themselves matter.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many of the teacher's best are compared; with stored candidates no more than were kept as best.
        sampled: how many of the others they are compared with.
        scale: student's units for one of the teacher's.
    """

    paper: ClassVar[str] = "after Joachims 2002"

    def __init__(
        self,
        *,
        top: int = 20,
        sampled: int = 40,
        scale: float = 1.0,
        mask_seen: bool = True,
        signal: str = "scores",
    ) -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)
        self.scale = above_zero("scale", scale)

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Units of the student's scores a row."""
        return pairwise_hinge(student, teacher, top=self.top, sampled=self.sampled, scale=self.scale)
