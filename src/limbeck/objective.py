"""What a student is asked to match: weighted terms over the signals of student, teacher and batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.projection import Projection, Resized, check_pictures, check_places, width
from limbeck.taps import HIDDEN, Taps
from limbeck.weight import Schedule, Weight, counts, nominal


class Term(nn.Module, ABC):
    """One loss. A subclass names the signals it reads and calls a pure function.

    A term owns its projections and any state as parameters and buffers, which are checkpointed.
    `needs_teacher` is false for hard losses: those are what the honest twin keeps. `projects` names the
    signals whose shapes it brings together itself; all others must fit as they are. `student_taps` and
    `teacher_taps` are the paths of the inner parts whose states it reads, as `hidden.<path>`; `student_heads`
    and `teacher_heads` those of linear parts whose inputs and weights it reads, as `input.<path>`, `weight.<path>`
    and `bias.<path>`, and `skipped_heads` those of them whose answers nobody reads. `group` and `paper` are for
    the docs: the kind of knowledge, and who found it.
    """

    needs_teacher: ClassVar[bool] = True
    projects: ClassVar[tuple[str, ...]] = ()
    group: ClassVar[str] = "response"
    paper: ClassVar[str] = ""
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    student_heads: tuple[str, ...] = ()
    teacher_heads: tuple[str, ...] = ()
    skipped_heads: tuple[str, ...] = ()

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Build what hangs on shapes, such as projections.

        Called once with a dry batch, under the run's seed, before the optimiser is made.
        """

    @abstractmethod
    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """The loss.

        Args:
            student: signals by name, first axis B, with gradients.
            teacher: signals by name, first axis B, without gradients; empty where there is none.
            batch: targets, weights and inputs by name, first axis B.

        Returns:
            Scalar, mean over B.
        """

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """A soft target (B, outputs) for students that are fitted rather than descended, if there is one."""
        return None

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures at which it needs the tail of top-k knowledge."""
        return ()


class RowTerm(Term):
    """A loss that is a mean over rows; a subclass says what each row loses.

    Rows with a `weight` in the batch are weighed here, so that every such loss, hard or soft, weighs alike.
    Losses that compare rows with one another have no row to weigh; they are plain terms.
    """

    @abstractmethod
    def rows(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What each row loses, and for how much it counts.

        Args:
            student: signals by name, first axis B, with gradients.
            teacher: signals by name, first axis B, without gradients; empty where there is none.
            batch: targets and inputs by name, first axis B.

        Returns:
            Losses (B,), summed over all that a row is counted for, and the counts (B,): 1 for most, 0 for
            a row that has nothing to say, the number of its steps for a sequence.
        """

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, the (weighted) mean over what counts; 0 where nothing does."""
        losses, counts = self.rows(student, teacher, batch)
        # Masked before the sum: a skipped row's infinity must not become NaN.
        losses = torch.where(counts if counts.dtype == torch.bool else counts > 0, losses, 0.0)
        if "weight" in batch:
            weight = batch["weight"].to(losses.dtype)
            losses, counts = losses * weight, counts * weight
        # Where nothing counts, 0 is divided by the least number there is.
        return losses.sum() / counts.sum().clamp(min=torch.finfo(losses.dtype).tiny)


class HiddenTerm(Term):
    """A loss on hidden states: what parts of the student say beside what parts of the teacher say.

    Args:
        student, teacher: paths of the parts that are tapped, one each or as many of the one as of the other.
    """

    projected: ClassVar[bool] = True
    """Whether the student's states are first mapped to the teacher's shape, by a projection of the term's own."""
    layers: ClassVar[int] = 1
    """Of those projections: 1 is linear."""
    placed: ClassVar[bool] = False
    """Whether it compares places, such as tokens or the points of a picture, so that states must have some."""
    pictured: ClassVar[bool] = False
    """Whether states must be pictures."""
    kept: ClassVar[bool] = False
    """Whether states as wide as the teacher's are not mapped: their channels mean the same, as those of logits do."""

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str]) -> None:
        super().__init__()
        self.student_taps = (student,) if isinstance(student, str) else tuple(student)
        self.teacher_taps = (teacher,) if isinstance(teacher, str) else tuple(teacher)
        if not self.student_taps or len(self.student_taps) != len(self.teacher_taps):
            raise UserError(
                f"student names {len(self.student_taps)} parts and teacher {len(self.teacher_taps)}; "
                "name as many of the one as of the other, and at least one"
            )
        self.projections = nn.ModuleList()

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """One projection a pair."""
        names = zip(self.student_taps, self.teacher_taps, strict=True)
        shapes = [(student[HIDDEN + mine].shape, teacher[HIDDEN + theirs].shape) for mine, theirs in names]
        for both in shapes:
            if self.placed:
                check_places(*both)
            if self.pictured:
                check_pictures(*both)
        if self.projected:
            self.projections = nn.ModuleList([self._projection(*both) for both in shapes])

    def _projection(self, student: Sequence[int], teacher: Sequence[int]) -> nn.Module:
        if self.kept and width(student) == width(teacher):
            return Resized()
        return Projection(student, teacher, layers=self.layers)

    def pairs(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(student's, teacher's) states, the student's projected where that is done, the teacher's without gradient."""
        found = []
        for place, (mine, theirs) in enumerate(zip(self.student_taps, self.teacher_taps, strict=True)):
            state = student[HIDDEN + mine]
            if self.projected:
                state = self.projections[place](state, teacher[HIDDEN + theirs])
            found.append((state, teacher[HIDDEN + theirs].detach()))
        return found


class HiddenRowTerm(HiddenTerm, RowTerm):
    """A loss on hidden states that is a mean over rows: what each pair of parts loses, added up.

    Where a pair loses something at each token, those that the batch's `mask` (B, T) leaves out do not count.
    """

    @abstractmethod
    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """What each row loses at one pair of parts, (B,), or at each of its places, (B, places)."""

    def rows(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The sum over pairs of the mean over places; every row counts."""
        mask = batch.get("mask")
        losses = torch.stack([over_places(self.pair(*both), mask) for both in self.pairs(student, teacher)]).sum(0)
        return losses, torch.ones_like(losses)


def over_places(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the places of each row that are there: (B, places, ...) to (B, ...); (B,) stays as it is.

    >>> over_places(torch.tensor([[1.0, 3.0]]), torch.tensor([[1, 0]])).tolist()
    [1.0]
    """
    if values.ndim == 1:
        return values
    if mask is None or mask.shape != values.shape[:2]:
        return values.mean(1)
    there = (mask > 0).view(*mask.shape, *[1] * (values.ndim - 2))
    return torch.where(there, values, 0.0).sum(1) / there.sum(1).clamp(min=1)


class Objective(nn.Module):
    """Weighted terms.

    A `learned` weight is exp(-s) with s descended beside the student and added to the loss, so that a
    term which stays large comes to count for less. A `balanced` one follows the gradients: it makes its
    term's as long as that of the first term whose weight is fixed.

    Args:
        terms: (name, term, weight); names are made unique by position.
        schedules: one mapping a term, setting -> schedule, such as of its temperature; none: all stay.

    Source: learned weights: Kendall, Gal, Cipolla 2018, equation 10 (with s = log sigma^2, and without
    the factors 1/2); balanced ones: after GradNorm (Chen et al. 2018) with equal rates, solved for the
    weight every time the gradients are looked at instead of descended.
    """

    def __init__(
        self,
        terms: Sequence[tuple[str, Term, Weight]],
        *,
        schedules: Sequence[Mapping[str, Schedule]] = (),
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
        """Of all terms, rising; of one that is scheduled, those it starts from and ends at."""
        now = {t for term, _ in self._pairs() for t in term.temperatures}
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

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term's own value. A term of weight 0 is not computed.

        Terms count in float32 whatever autocast says: in bfloat16 their sums over classes would err by a hundredth.
        """
        here = next((tensor.device.type for tensor in student.values()), "cpu")
        with torch.autocast(here, enabled=False):
            return self._sum(student, teacher, batch)

    def _sum(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values: dict[str, Tensor] = {}
        total: Any = None
        for place, (name, (term, weight)) in enumerate(zip(self.names, self._pairs(), strict=True)):
            factor = nominal(weight, self.progress)
            if factor == 0:
                continue
            values[name] = value = term(student, teacher, batch)
            counted = value * factor
            if weight == "learned":
                counted = torch.exp(-self.doubt[place]) * value + self.doubt[place]
            elif weight == "balanced":
                counted = self.balance[place] * value
            total = counted if total is None else total + counted
        if total is None:
            raise UserError("every term of the objective has weight 0")
        return total, values

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
            UserError: a term offers none.
        """
        total: Any = None
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
