"""What a student is asked to match: weighted terms, and how they come together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.sample_weight import sample_weights
from limbeck.taps import Taps
from limbeck.term import Term, every
from limbeck.weight import SampleWeight, Schedule, Weight, counts, nominal

ROWS: Final = ""
"""Stands among the names of terms for the rows themselves."""


class Objective(nn.Module):
    """Weighted terms.

    A `learned` weight is exp(-s) with s descended beside the student and added to the loss, so that a
    term which stays large comes to count for less. A `balanced` one follows the gradients: it makes its
    term's as long as that of the first term whose weight is fixed.

    Args:
        terms: (name, term, weight); names are made unique by position.
        schedules: one mapping a term, setting -> schedule, such as of its temperature; none: all stay.
        sample_weights: one a term, what its rows count for by the teacher, beside their `weight` in the batch; none:
            all alike.

    Source: learned weights: Kendall, Gal, Cipolla 2018, equation 10 (with s = log sigma^2, and without
    the factors 1/2); balanced ones: after GradNorm (Chen et al. 2018) with equal rates, solved for the
    weight every time the gradients are looked at instead of descended.
    """

    def __init__(
        self,
        terms: Sequence[tuple[str, Term, Weight]],
        *,
        schedules: Sequence[Mapping[str, Schedule]] = (),
        sample_weights: Sequence[SampleWeight | None] = (),
    ) -> None:
        super().__init__()
        if not terms:
            raise UserError("an objective needs at least one term")
        for name, _, weight in terms:
            if not (isinstance(weight, str) or min(nominal(weight, 0.0), nominal(weight, 1.0)) >= 0):
                raise UserError(f"the weight of '{name}' is {weight}; it must be 0 or more")
            if weight == "balanced" and not any(_fixed(w) for _, _, w in terms):
                raise UserError(f"'{name}' is balanced against the first term of a fixed weight, and there is none")
        _check_skipped(terms)
        self.sample_weights = list(sample_weights) or [None for _ in terms]
        for (name, term, _), by in zip(terms, self.sample_weights, strict=True):
            if by is not None:
                check_sample_weight(name, term)
        self.names = [
            name if [t[0] for t in terms].count(name) == 1 else f"{name}{i}" for i, (name, _, _) in enumerate(terms)
        ]
        self.terms = nn.ModuleList([term for _, term, _ in terms])
        self.weights: list[Weight] = [weight for _, _, weight in terms]
        self.schedules = list(schedules) or [{} for _ in terms]
        self.progress = 0.0
        if "learned" in self.weights:
            self.doubt = nn.Parameter(torch.zeros(len(terms)))
        self.balance: Tensor
        if "balanced" in self.weights:
            self.register_buffer("balance", torch.ones(len(terms)))
        self.at(0.0)

    @property
    def needs_teacher(self) -> bool:
        """Whether any term that counts does."""
        return any(t.needs_teacher for t, w in self._pairs() if counts(w))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of all terms, rising; of one that is scheduled, those it starts from and ends at.

        How sure a teacher is, is read at 1.
        """
        now = {t for term, _ in self._pairs() for t in term.temperatures}
        now |= {1.0 for by in self.sample_weights if by is not None and by.by == "confidence"}
        moving = [schedules["temperature"] for schedules in self.schedules if "temperature" in schedules]
        return tuple(sorted(now | {end for one in moving for end in (one.start, one.end)}))

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Paths of the student's parts that any term reads."""
        return tuple(dict.fromkeys(path for term, _ in self._pairs() for path in term.student_taps))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Paths of the teacher's parts that any term reads."""
        return tuple(dict.fromkeys(path for term, _ in self._pairs() for path in term.teacher_taps))

    def taps(self, module: nn.Module, who: Literal["student", "teacher"]) -> Taps:
        """What its terms read of the inner parts of a student or a live teacher."""
        terms = [term for term, weight in self._pairs() if counts(weight)]
        heads = [path for term in terms for path in getattr(term, f"{who}_heads")]
        skipped = [path for term in terms for path in term.skipped_heads if path in heads]
        return Taps(module, self.student_taps if who == "student" else self.teacher_taps, heads, skipped)

    def _pairs(self) -> list[tuple[Term, Weight]]:
        return [(term, weight) for term, weight in zip(self.terms, self.weights, strict=True) if isinstance(term, Term)]

    def at(self, progress: float) -> None:
        """Set what is scheduled to where it is when this share of all steps is done, in [0, 1]."""
        self.progress = progress
        for (term, _), schedules in zip(self._pairs(), self.schedules, strict=True):
            for name, schedule in schedules.items():
                setattr(term, name, schedule.at(progress))

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Let every term build what hangs on shapes."""
        for term, _ in self._pairs():
            term.size(student, teacher, batch)

    def denominators(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each term's mean over these rows is divided by, of terms that count now; as `ROWS`, how many rows."""
        found = {
            name: term.denominator(teacher, self._weighed(place, teacher, batch))
            for place, (name, (term, weight)) in enumerate(zip(self.names, self._pairs(), strict=True))
            if nominal(weight, self.progress) != 0
        }
        return {**found, ROWS: every(teacher, batch).sum()}

    def forward(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        shares: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term's own value. A term of weight 0 is not computed.

        Terms count in float32 whatever autocast says: in bfloat16 their sums over classes would err by a hundredth.

        Args:
            student: signals by name, first axis B, with gradients.
            teacher: signals by name, first axis B, without gradients; empty where there is none.
            batch: targets, weights and inputs by name, first axis B.
            shares: where these rows are a part of a batch, what share of each of the batch's `denominators` is
                theirs: the weighted sums of all parts then add up to that of the batch. The terms' own values are
                those of the part.
        """
        here = next((tensor.device.type for tensor in student.values()), "cpu")
        with torch.autocast(here, enabled=False):
            return self._sum(student, teacher, batch, shares)

    def _sum(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        shares: Mapping[str, Tensor] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values: dict[str, Tensor] = {}
        total: Any = None
        for place, (name, (term, weight)) in enumerate(zip(self.names, self._pairs(), strict=True)):
            factor = nominal(weight, self.progress)
            if factor == 0:
                continue
            values[name] = value = term(student, teacher, self._weighed(place, teacher, batch))
            if shares is not None:
                value = value * shares[name]
            counted = value * factor
            if weight == "learned":
                doubt = self.doubt[place]
                counted = torch.exp(-doubt) * value + (doubt if shares is None else doubt * shares[ROWS])
            elif weight == "balanced":
                counted = self.balance[place] * value
            total = counted if total is None else total + counted
        if total is None:
            raise UserError("every term of the objective has weight 0")
        return total, values

    def _weighed(self, place: int, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The batch as a term sees it: its rows' weights times what they count for by the teacher."""
        by = self.sample_weights[place]
        if by is None:
            return batch
        weight = sample_weights(by, teacher, batch)
        return {**batch, "weight": weight * batch["weight"] if "weight" in batch else weight}

    def rebalance(self, norms: Mapping[str, float]) -> None:
        """Set balanced weights by the lengths of the terms' gradients; a term without gradient keeps its weight.

        Args:
            norms: name -> length of the gradient of the term's own value.
        """
        if "balanced" not in self.weights:
            return
        first = next(i for i, weight in enumerate(self.weights) if _fixed(weight))
        wanted = nominal(self.weights[first], self.progress) * norms.get(self.names[first], 0.0)
        balance = self.balance.clone()  # the step under way still needs the old one for its gradient
        for place, (name, weight) in enumerate(zip(self.names, self.weights, strict=True)):
            if weight == "balanced" and norms.get(name, 0.0) > 0 and wanted > 0:
                balance[place] = wanted / norms[name]
        self.balance = balance

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The weighted mean of the terms' soft targets, for fitted students; schedules count as at their end.

        Raises:
            UserError: a term offers none, or weighs rows by the teacher.
        """
        total: Any = None
        if any(self.sample_weights):
            raise UserError("sample_weight is of one loss's rows, and a fitted student has one target; leave it out")
        weights = [nominal(weight, 1.0) for weight in self.weights]
        for name, (term, _), weight in zip(self.names, self._pairs(), weights, strict=True):
            if weight == 0:
                continue
            soft = term.target(teacher, batch)
            if soft is None:
                raise UserError(f"loss '{name}' offers no soft target, so a fitted student cannot learn from it")
            total = soft * weight if total is None else total + soft * weight
        if total is None:
            raise UserError("every term of the objective has weight 0")
        return torch.as_tensor(total / sum(weights))


def check_sample_weight(name: str, term: Term) -> None:
    """Refuse to weigh rows by the teacher where there are none, or no teacher.

    Raises:
        UserError: says why.
    """
    if not term.rowwise:
        raise UserError(f"'{name}' compares rows with one another, so it has no row to weigh; leave out sample_weight")
    if not term.needs_teacher:
        raise UserError(
            f"'{name}' learns from no teacher, and counts alike for whoever has none; leave out sample_weight, "
            "or weigh the rows of a loss beside it"
        )


def _check_skipped(terms: Sequence[tuple[str, Term, Weight]]) -> None:
    """A head whose answers are not computed is no head for a loss that reads them."""
    skipping = [name for name, term, weight in terms if term.skipped_heads and counts(weight)]
    reading = [name for name, term, weight in terms if counts(weight) and not (term.student_taps or term.student_heads)]
    if skipping and reading:
        raise UserError(
            f"'{skipping[0]}' is alone in reading its heads, but '{reading[0]}' reads what they answer; "
            f"set `alone: false`, or leave '{reading[0]}' out"
        )


def _fixed(weight: Weight) -> bool:
    return not isinstance(weight, str) and counts(weight)
