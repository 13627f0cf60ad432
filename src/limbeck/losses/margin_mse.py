"""Margin-MSE: the student's gaps between two items are as wide as the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.candidate import listed, owned
from limbeck.errors import UserError
from limbeck.objective import RowTerm


def margin_mse(student: Tensor, teacher: Tensor, positive: Tensor | None = None) -> Tensor:
    """Mean over pairs (i, j) of ((s_i - s_j) - (t_i - t_j))^2.

    A pair's error depends on s - t alone, so the mean over all pairs is written with means over items.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M); -inf where an item is left out; no gradient reaches them.
        positive: bool, (B, M): pairs are those of a positive item and another; none: all pairs.

    Returns:
        (B,), in squared units of the scores; 0 for a row without a pair.

    Source: Hofstaetter et al. 2020 (arXiv 2010.02666), where a row has one positive and one other. Beside a
    teacher whose scores are squashed into [0, 1] all margins are small, and so is what is learnt.

    >>> margin_mse(torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 1.0]])).item()  # (3 - 1)^2
    4.0
    """
    theirs = teacher.detach().float()
    out = torch.isneginf(theirs)
    gap = (student.float() - theirs).masked_fill(out, 0.0)
    there = (~out).float()
    # Pairs do not feel a common shift; without it the squares below are of the size of the answer.
    gap = gap - _mean(gap.detach(), there).unsqueeze(1)
    if positive is None:
        count = there.sum(1)
        return 2 * _mean(gap * gap, there) * count / (count - 1).clamp(min=1)
    mine, rest = there * positive, there * ~positive
    pairs = _mean(gap * gap, mine) - 2 * _mean(gap, mine) * _mean(gap, rest) + _mean(gap * gap, rest)
    return pairs * (mine.any(1) & rest.any(1))


def _mean(values: Tensor, among: Tensor) -> Tensor:
    return torch.linalg.vecdot(values, among) / among.sum(1).clamp(min=1)


class MarginMse(RowTerm):
    """For teachers that score on a scale of their own, such as cross-encoders: gaps count, not levels.

    Prefer `listwise_kl` where only the top of a list matters, `pairwise_hinge` where a wider gap does no harm.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), padded with -1 | batch |

    Args:
        pairs: `targets`: each of the row's targets with each other item; `all`: every two items that are not
            its targets.
        signal: the name of the scores.
    """

    group: ClassVar[str] = "ranking"
    paper: ClassVar[str] = "Hofstätter et al. 2020"

    def __init__(self, *, pairs: Literal["targets", "all"] = "targets", signal: str = "scores") -> None:
        super().__init__()
        if pairs not in ("targets", "all"):
            raise UserError(f"pairs is '{pairs}'; it must be targets or all")
        self.pairs = pairs
        self.signal = signal

    def rows(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Squared units a row; one without a pair does not count."""
        mine, theirs, ids = listed(student, teacher, signal=self.signal)
        own = owned(batch["targets"], theirs, ids)
        there = ~torch.isneginf(theirs)
        if self.pairs == "targets":
            return margin_mse(mine, theirs, own), (there & own).any(1) & (there & ~own).any(1)
        return margin_mse(mine, theirs.masked_fill(own, float("-inf"))), (there & ~own).sum(1) > 1
