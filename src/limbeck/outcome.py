"""What one protocol found: everybody's judgements and trainings."""

from __future__ import annotations

from dataclasses import dataclass

from limbeck import report
from limbeck.front import Tuning
from limbeck.recipe import Protocol
from limbeck.store import Store
from limbeck.task import Judgement, Problem
from limbeck.teach import Desk, Lived
from limbeck.tutor import Tutor


@dataclass(frozen=True)
class Entry:
    """One line of the table with everything behind it.

    Args:
        role: as in the report.
        name: of the predictor.
        test: judgements, split by split and within it seed by seed.
        lived: trainings in the same order; of all members for an ensemble, none for what was brought.
        tutor: where role is teacher.
    """

    role: str
    name: str
    test: list[Judgement]
    lived: list[Lived]
    tutor: Tutor | None = None


@dataclass(frozen=True)
class Outcome:
    """What one protocol found.

    Args:
        protocol: of the recipe.
        problems: split by split.
        entries: baselines, teacher, students and their twins.
        gate: of the first split.
        stores: split by split.
        seeds: of the students, as the recipe names them.
        tunings: what searches found.
    """

    protocol: Protocol
    problems: list[Problem]
    entries: list[Entry]
    gate: report.Gate
    stores: list[Store]
    seeds: tuple[int, ...] = (0,)
    tunings: tuple[Tuning, ...] = ()

    def entry(self, role: str, name: str | None = None) -> Entry:
        """The entry of a role, and name where there are several."""
        return next(e for e in self.entries if e.role == role and name in (None, e.name))

    @property
    def students(self) -> list[str]:
        """Names of the students."""
        return [e.name for e in self.entries if e.role == "student"]


def best_seed(desk: Desk, outcome: Outcome, name: str) -> int:
    """Of the first split, the position of the seed that is best on validation rows."""
    lived = outcome.entry("student", name).lived
    each = len(lived) // len(outcome.problems)
    sign = 1.0 if desk.task.higher_is_better else -1.0
    return max(range(each), key=lambda i: sign * lived[i].validation)
