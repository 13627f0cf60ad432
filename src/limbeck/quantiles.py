"""Quantiles against outcomes that happen with known masses: one label, or a teacher's own quantiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import UserError


def pinball(student: Tensor, outcomes: Tensor, levels: Tensor, masses: Tensor) -> Tensor:
    """The mean over levels l and outcomes y of l (y - s_l) where y is above the quantile s_l, (1 - l) (s_l - y) below.

    Args:
        student: quantiles, (B, Q), in the outcomes' unit.
        outcomes: (B, M).
        levels: of the student's quantiles, (Q,), in (0, 1).
        masses: of the outcomes, (M,), summing to 1.

    Returns:
        (B,), in the outcomes' unit.

    >>> quantile, outcome = torch.tensor([[1.0]]), torch.tensor([[3.0]])
    >>> round(pinball(quantile, outcome, torch.tensor([0.9]), torch.tensor([1.0])).item(), 4)
    1.8
    """
    above = outcomes.unsqueeze(1) - student.unsqueeze(2)
    return ((above * levels.unsqueeze(1) - above.clamp(max=0)) @ masses).mean(1)


def masses_of(levels: Tensor) -> Tensor:
    """How much of a distribution each of its quantiles stands for: from half-way to the one before to half-way on.

    Args:
        levels: rising, (Q,), in (0, 1).

    Returns:
        (Q,), summing to 1. Of outcomes with these masses the quantile at each of the levels is the outcome of
        that level, and no other.

    >>> masses_of(torch.tensor([0.1, 0.5, 0.9])).tolist()
    [0.30000001192092896, 0.3999999761581421, 0.30000001192092896]
    """
    ends = levels.new_tensor([0.0]), levels.new_tensor([1.0])
    return torch.cat([ends[0], (levels[1:] + levels[:-1]) / 2, ends[1]]).diff()


def rising(levels: Sequence[float]) -> tuple[float, ...]:
    """The levels.

    Raises:
        UserError: they do not rise within 0 and 1, or there is none.
    """
    found = tuple(levels)
    if not found or not all(a < b for a, b in zip((0.0, *found), (*found, 1.0), strict=True)):
        raise UserError(f"the levels are {list(found)}; they must rise, between 0 and 1, and there must be one")
    return found
