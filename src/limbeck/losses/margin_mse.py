"""Margin-MSE: the student's gaps between two items are as wide as the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.candidate import listed, owned, told
from limbeck.errors import UserError
from limbeck.slope import sloped, wide
from limbeck.term import RowTerm


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
    return sloped(_all_pairs)(student, teacher) if positive is None else sloped(_pairs)(student, teacher, positive)


def _gap(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the student says beyond the teacher, less its mean, which pairs do not feel: without it the squares are of
    the size of the answer. Then which items are left out, for which it is 0, and how many are not.
    """
    mine, out = wide(student), torch.isneginf(teacher)
    gap = (mine - teacher).to(mine.dtype).masked_fill_(out, 0.0)
    count = (~out).sum(1, dtype=gap.dtype)
    gap.sub_((gap.sum(1) / count.clamp(min=1)).unsqueeze(1)).masked_fill_(out, 0.0)
    return gap, out, count


def _all_pairs(student: Tensor, teacher: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    gap, _, count = _gap(student, teacher)
    scale = 2 / (count - 1).clamp(min=1)
    return scale * torch.linalg.vecdot(gap, gap), lambda: gap.mul_(2 * scale.unsqueeze(1))


def _pairs(student: Tensor, teacher: Tensor, positive: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    gap, out, count = _gap(student, teacher)
    hits = positive & ~out
    own = gap.masked_fill(~hits, 0.0)
    many = hits.sum(1, dtype=gap.dtype)
    few, rest = many.clamp(min=1), (count - many).clamp(min=1)
    # The gaps add up to 0, so that those of the others are what those of the positive items lack.
    mean, other = own.sum(1) / few, -own.sum(1) / rest
    square = torch.linalg.vecdot(own, own)
    squares = square / few + (torch.linalg.vecdot(gap, gap) - square) / rest
    counted = (many > 0) & (count > many)

    def slope() -> Tensor:
        left = (2 * counted / rest).unsqueeze(1) * (gap - mean.unsqueeze(1))
        found = torch.where(hits, (2 * counted / few).unsqueeze(1) * (gap - other.unsqueeze(1)), left)
        return found.masked_fill_(out, 0.0)

    return (squares - 2 * mean * other) * counted, slope


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

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Squared units a row."""
        mine, theirs, ids = listed(student, teacher, signal=self.signal)
        own = owned(batch["targets"], theirs, ids)
        if self.pairs == "targets":
            return margin_mse(mine, theirs, own)
        return margin_mse(mine, theirs.masked_fill(own, float("-inf")))

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A row without a pair does not count."""
        theirs, ids = told(teacher, signal=self.signal)
        own, there = owned(batch["targets"], theirs, ids), ~torch.isneginf(theirs)
        if self.pairs == "targets":
            return (there & own).any(1) & (there & ~own).any(1)
        return (there & ~own).sum(1) > 1
