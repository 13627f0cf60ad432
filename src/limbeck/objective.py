"""What a student is asked to match: weighted terms, and how they come together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.sample_weight import sample_weights
from limbeck.taps import Taps
from limbeck.term import Term, every
from limbeck.weight import SampleWeight, Schedule, Source, Weight, counts, nominal

ROWS: Final = ""
"""Stands among the names of terms for the rows themselves."""

Company = Callable[[Source], Sequence[Mapping[str, Tensor]]]
"""What those beside the student say of a batch, signals by name, without gradients: its average, or each peer."""


def nobody(source: Source) -> Sequence[Mapping[str, Tensor]]:
    """A student that trains alone.

    Raises:
        UserError: always, for a term asked.
    """
    raise UserError(f"a term learns from '{source}', and the student trains alone")


class Objective(nn.Module):
    """Weighted terms.

    A `learned` weight is exp(-s) with s descended beside the student and added to the loss, so that a
    term which stays large comes to count for less. A `balanced` one follows the gradients: it makes its
    term's as long as that of the first term whose weight is fixed (of a batch in parts, in its last part).

    Args:
        terms: (name, term, weight); names are made unique by position.
        schedules: one mapping a term, setting -> schedule, such as of its temperature; none: all stay.
        sample_weights: one a term, what its rows count for by the teacher, beside their `weight` in the batch; none:
            all alike.
        sources: one a term, whom it learns from; none: all from the teacher. What a term calls `teacher` is then its
            source, and of several peers its value is the mean.

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
        sources: Sequence[Source] = (),
    ) -> None:
        super().__init__()
        if not terms:
            raise UserError("an objective needs at least one term")
        for name, _, weight in terms:
            if not min(nominal(weight, 0.0), nominal(weight, 1.0)) >= 0:
                raise UserError(f"the weight of '{name}' is {weight}; it must be 0 or more")
            if weight == "balanced" and not any(_fixed(w) for _, _, w in terms):
                raise UserError(f"'{name}' is balanced against the first term of a fixed weight, and there is none")
        _check_skipped(terms)
        self.sources: list[Source] = list(sources) or ["teacher" for _ in terms]
        if len(self.sources) != len(terms) or not set(self.sources) <= set(get_args(Source)):
            raise UserError(
                f"sources are {self.sources}; one a term was wanted, of {len(terms)}: {', '.join(get_args(Source))}"
            )
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
        return any(term.needs_teacher for term in self._learning_from("teacher"))

    @property
    def company(self) -> frozenset[Source]:
        """Of whom beside the teacher any term that counts learns."""
        others: tuple[Source, ...] = ("average", "peers")
        return frozenset(other for other in others if self._learning_from(other))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of all terms that learn from the teacher, rising; of one that is scheduled, those it starts from and ends at.

        How sure a teacher is, is read at 1.
        """
        theirs = [place for place, source in enumerate(self.sources) if source == "teacher"]
        pairs, by = self._pairs(), [self.sample_weights[place] for place in theirs]
        now = {t for place in theirs for t in pairs[place][0].temperatures}
        now |= {1.0 for one in by if one is not None and one.by == "confidence"}
        told = [self.schedules[place] for place in theirs]
        moving = [schedules["temperature"] for schedules in told if "temperature" in schedules]
        return tuple(sorted(now | {end for one in moving for end in (one.start, one.end)}))

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Paths of the student's parts that any term reads."""
        return tuple(dict.fromkeys(path for term in self._learning_from(None) for path in term.student_taps))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Paths of the teacher's parts that any term reads."""
        return self._taps_of("teacher")

    def taps(self, module: nn.Module, who: Literal["student"] | Source) -> Taps:
        """What its terms read of the inner parts of a student, of a live teacher, or of the student's company."""
        terms = self._learning_from(None if who == "student" else who)
        role = "student" if who == "student" else "teacher"
        heads = [path for term in terms for path in getattr(term, f"{role}_heads")]
        skipped = [path for term in terms for path in term.skipped_heads if path in heads]
        return Taps(module, self.student_taps if who == "student" else self._taps_of(who), heads, skipped)

    def _taps_of(self, source: Source) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for term in self._learning_from(source) for path in term.teacher_taps))

    def _learning_from(self, source: Source | None) -> list[Term]:
        """The terms that count, of one source or of all."""
        told = zip(self._pairs(), self.sources, strict=True)
        return [term for (term, weight), own in told if counts(weight) and source in (None, own)]

    def _pairs(self) -> list[tuple[Term, Weight]]:
        return [(term, weight) for term, weight in zip(self.terms, self.weights, strict=True) if isinstance(term, Term)]

    def at(self, progress: float) -> None:
        """Set what is scheduled to where it is when this share of all steps is done, in [0, 1]."""
        self.progress = progress
        for (term, _), schedules in zip(self._pairs(), self.schedules, strict=True):
            for name, schedule in schedules.items():
                setattr(term, name, schedule.at(progress))

    def size(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        company: Company = nobody,
    ) -> None:
        """Let every term that counts build what hangs on shapes."""
        for place, (term, weight) in enumerate(self._pairs()):
            if counts(weight):
                term.size(student, self._heard(place, teacher, company)[0], batch)

    def denominators(
        self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor], company: Company = nobody
    ) -> dict[str, Tensor]:
        """What each term's mean over these rows is divided by, of terms that count now; as `ROWS`, how many rows."""
        found = {}
        for place, (name, (term, weight)) in enumerate(zip(self.names, self._pairs(), strict=True)):
            if nominal(weight, self.progress) != 0:
                heard = self._heard(place, teacher, company)[0]
                found[name] = term.denominator(heard, self._weighed(place, heard, batch))
        return {**found, ROWS: every(teacher, batch).sum()}

    def _heard(self, place: int, teacher: Mapping[str, Tensor], company: Company) -> Sequence[Mapping[str, Tensor]]:
        """What a term's source says: the teacher, or each of those beside the student."""
        source = self.sources[place]
        return (teacher,) if source == "teacher" else company(source)

    def forward(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        shares: Mapping[str, Tensor] | None = None,
        company: Company = nobody,
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
            company: what those beside the student say, of terms that learn from them.
        """
        here = next((tensor.device.type for tensor in student.values()), "cpu")
        with torch.autocast(here, enabled=False):
            values = self._values(student, teacher, batch, company)
            return self._sum(values, shares), values

    def _values(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        company: Company,
    ) -> dict[str, Tensor]:
        """Each term's own value, of terms that count now."""
        values: dict[str, Tensor] = {}
        for place, (name, (term, weight)) in enumerate(zip(self.names, self._pairs(), strict=True)):
            if nominal(weight, self.progress) == 0:
                continue
            heard = self._heard(place, teacher, company)
            each = [term(student, said, self._weighed(place, said, batch)) for said in heard]
            values[name] = each[0] if len(each) == 1 else torch.stack(each).mean()
        return values

    def _sum(self, values: Mapping[str, Tensor], shares: Mapping[str, Tensor] | None) -> Tensor:
        total: Any = None
        for place, (name, weight) in enumerate(zip(self.names, self.weights, strict=True)):
            if name not in values:
                continue
            value = values[name] if shares is None else values[name] * shares[name]
            counted = value * nominal(weight, self.progress)
            if weight == "learned":
                doubt = self.doubt[place]
                counted = torch.exp(-doubt) * value + (doubt if shares is None else doubt * shares[ROWS])
            elif weight == "balanced":
                counted = self.balance[place] * value
            total = counted if total is None else total + counted
        if total is None:
            raise UserError("every term of the objective has weight 0")
        return torch.as_tensor(total)

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
        if self.company:
            raise UserError("a student that is fitted in one go has no average and no peers; learn from the teacher")
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
