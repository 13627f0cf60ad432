"""What a search found, as data: every file it measured, which of them are worth having, and which was taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from limbeck.bounds import Budget

Precision = Literal["fp32", "int8"]
Number = float | None
"""None, like NaN, means not measured."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One exported file of one training of a search, measured on validation rows (addition).

    Args:
        trial: number of the trial, from 0; none for what was trained at given settings.
        settings: JSON values; what was tried.
        precision: of the file.
        value: headline of that very file.
        bytes: of the file.
        parameters: of the student.
        p95_ms: milliseconds for one row, 95th percentile.
        fits: whether it keeps to the budget.
        front: whether no other file of the search is as good in everything and better in something.
    """

    trial: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision = "fp32"
    value: Number = None
    bytes: int
    parameters: int
    p95_ms: Number = None
    fits: bool = True
    front: bool = False


@dataclass(frozen=True, kw_only=True)
class Picked:
    """A candidate that was trained with all seeds and judged on test rows (addition), as trained: not its int8 file.

    Args:
        name: of its row.
        candidate: as the search met it.
        difference: of the headline on test rows, less that of the student at given settings.
        low, high: bounds of its 95% confidence interval.
        p_value: of the paired test.
    """

    name: str
    candidate: Candidate
    difference: Number = None
    low: Number = None
    high: Number = None
    p_value: Number = None


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a search found (addition).

    Args:
        student: name of the row at given settings.
        role: the student's search, or its twin's without a teacher.
        trials: done, of which `pruned` were given up early and `failed` led to no file.
        budget: `bytes`, `parameters`, `p95_ms` -> the most that is allowed.
        candidates: all files that were measured.
        given: the file of the student at given settings.
        best: the best file that keeps to the budget; none where no file does.
        lean: the best of those that are also no larger than the given one; none where there is none.
    """

    student: str
    role: Literal["student", "scratch"]
    trials: int
    pruned: int = 0
    failed: int = 0
    budget: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    given: Candidate | None = None
    best: Picked | None = None
    lean: Picked | None = None


def excess(candidate: Candidate, budget: Budget) -> dict[str, float]:
    """By what share of it every limit is passed; 0 or less where it is kept.

    >>> excess(Candidate(bytes=150, parameters=9), Budget(bytes=100))
    {'bytes': 0.5}
    """
    costs = {name: getattr(candidate, name) for name in budget.limits}
    return {name: costs[name] / limit - 1 for name, limit in budget.limits.items() if costs[name] is not None}


def fits(candidate: Candidate, budget: Budget) -> bool:
    """Whether it keeps to every limit."""
    return all(share <= 0 for share in excess(candidate, budget).values())


def own(files: Sequence[Candidate], budget: Budget, sign: float) -> Candidate:
    """Of the files of one training, the one to take: within the budget, then the best, then the smallest.

    Args:
        files: at least one.
        budget: where none keeps to it, the nearest is taken.
        sign: 1 where a higher headline is better, else -1.
    """

    def order(one: Candidate) -> tuple[float, float, float]:
        over = sum(max(0.0, share) for share in excess(one, budget).values())
        # Headlines that round alike are equal, as where int8 is made; then bytes decide.
        return -over, round(sign * (one.value or 0.0), 3), -one.bytes

    return max(files, key=order)


def best(trainings: Iterable[Sequence[Candidate]], budget: Budget, sign: float) -> Candidate | None:
    """The best of many trainings' own files that keeps to the budget, the first of equals; none where none does."""
    each = [own(files, budget, sign) for files in trainings if files]
    inside = [one for one in each if fits(one, budget)]
    return max(inside, key=lambda one: sign * (one.value or 0.0), default=None)


def marked(candidates: Sequence[Candidate], axes: Sequence[str], budget: Budget, sign: float) -> tuple[Candidate, ...]:
    """The candidates, told which of them keep to the budget and which lie on the front."""
    points = [(-sign * (one.value or 0.0), *(float(getattr(one, axis)) for axis in axes)) for one in candidates]

    def beaten(point: tuple[float, ...]) -> bool:
        return any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)

    return tuple(
        replace(one, fits=fits(one, budget), front=not beaten(point))
        for one, point in zip(candidates, points, strict=True)
    )
