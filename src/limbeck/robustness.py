"""What attacks and bad pictures do to the predictors of a run, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Number = float | None
"""None, like NaN, means not measured."""


def radius_of(radius: float) -> str:
    """A radius as the field says it.

    >>> radius_of(8 / 255)
    '8/255'
    """
    return f"{radius * 255:.3g}/255"


@dataclass(frozen=True, kw_only=True)
class Withstood:
    """One predictor's accuracy on the sampled test rows (addition).

    Args:
        name, role: of the row of the table.
        clean: on the pictures as they are.
        attacks: attack -> accuracy at each radius; none of a predictor that no gradient goes through.
        corruptions: corruption -> accuracy at each severity.
        note: what a reader must know, such as why it was not attacked.
    """

    name: str
    role: Literal["teacher", "student", "scratch"]
    clean: Number = None
    attacks: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)
    corruptions: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What an audit found (addition).

    Args:
        protocol: of the first split of which the test rows are.
        rows, test_rows: how many were drawn of how many.
        radii: of the attacks, rising; how far a channel of a pixel is moved, its values counted in [0, 1].
        severities: of the corruptions, rising, 1 to 5.
        how: what was done, in words: attack, or corruptions -> settings.
        predictors: teacher, students and twins.
    """

    protocol: str
    rows: int
    test_rows: int
    radii: tuple[float, ...] = ()
    severities: tuple[int, ...] = ()
    how: Mapping[str, str] = field(default_factory=dict)
    predictors: tuple[Withstood, ...] = ()
