"""What a term counts for: a number, one that changes as training goes on, or one that is found on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from limbeck.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """A number that moves from `start` to `end` while a training goes on.

    Args:
        schedule: `linear`, `cosine` (slow at both ends), or `step`, which jumps when `until` is reached. A
            warm-up is linear from 0.
        start, end: the number before and after.
        after: share of all steps before it moves, in [0, 1).
        until: share of all steps by which it has arrived, above `after` and at most 1.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    schedule: Literal["linear", "cosine", "step"]
    start: float
    end: float
    after: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.after < self.until <= 1:
            raise UserError(f"after is {self.after} and until {self.until}; wanted: 0 <= after < until <= 1")
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise UserError(f"start is {self.start} and end {self.end}; both must be finite")

    def at(self, progress: float) -> float:
        """The number when this share of all steps is done.

        >>> Schedule("linear", 0.0, 2.0, until=0.5).at(0.25)
        1.0
        """
        share = min(max((progress - self.after) / (self.until - self.after), 0.0), 1.0)
        if self.schedule == "step":
            share = math.floor(share)
        elif self.schedule == "cosine":
            share = 0.5 - 0.5 * math.cos(math.pi * share)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class SampleWeight:
    """What each row counts for in a loss that learns from a teacher, beside its `weight` in the data.

    Args:
        by: `confidence`: the greatest probability the teacher gives; `correctness`: 1 where the class it finds most
            probable is the row's label, or there is none, else 0.
        floor: the least that a row counts for, in [0, 1].
        signal: the name of the teacher's logits.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    by: Literal["confidence", "correctness"]
    floor: float = 0.0
    signal: str = "logits"

    def __post_init__(self) -> None:
        if self.by not in ("confidence", "correctness"):
            raise UserError(f"sample_weight is by '{self.by}'; it must be confidence or correctness")
        if not 0 <= self.floor <= 1:
            raise UserError(f"floor is {self.floor}; it must be between 0 and 1")


Source = Literal["teacher", "average", "peers"]
"""Whom a loss learns from: the teacher, the student's own averaged weights, or networks that train beside it."""

Found = Literal["learned", "balanced"]
"""`learned`: by the term's own uncertainty; `balanced`: so that its gradient is as long as the first fixed term's."""

Weight = float | Schedule | Found


def nominal(weight: Weight, progress: float) -> float:
    """A weight as a number when this share of all steps is done; one that is found counts as 1."""
    if isinstance(weight, Schedule):
        return weight.at(progress)
    if isinstance(weight, str) and weight not in get_args(Found):
        raise UserError(f"a weight is '{weight}'; it must be a number, a schedule, {' or '.join(get_args(Found))}")
    return 1.0 if isinstance(weight, str) else weight


def counts(weight: Weight) -> bool:
    """Whether it is above 0 at any time."""
    return weight.start > 0 or weight.end > 0 if isinstance(weight, Schedule) else weight != 0


def scaled(weight: Weight, whole: float, own: float) -> Weight:
    """A weight times whole / own, exact where the two are equal; one that is found stays."""
    if isinstance(weight, Schedule):
        return replace(weight, start=weight.start / own * whole, end=weight.end / own * whole)
    return weight if isinstance(weight, str) else weight / own * whole
