"""Losses over the signals of student, teacher and batch, each a part of `losses/`: what they all are, and by sort."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.projection import Projection, Resized, check_pictures, check_places, width
from limbeck.taps import HIDDEN


class Term(nn.Module, ABC):
    """One loss. A subclass names the signals it reads and calls a pure function.

    A term owns its projections and any state as parameters and buffers, which are checkpointed.
    `needs_teacher` is false for hard losses: those are what the honest twin keeps. `rowwise` is true of a mean over
    rows, which weighs them by the batch's `weight`; such are `RowTerm`s. `projects` names the signals whose
    shapes it brings together itself; all others must fit as they are. `student_taps` and `teacher_taps` are the
    paths of the inner parts whose states it reads, as `hidden.<path>`; `student_heads` and `teacher_heads` those of
    linear parts whose inputs and weights it reads, as `input.<path>`, `weight.<path>` and `bias.<path>`, and
    `skipped_heads` those of them whose answers nobody reads. `group` and `paper` are for the docs: the kind of
    knowledge, and who found it.
    """

    needs_teacher: ClassVar[bool] = True
    rowwise: ClassVar[bool] = False
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

    def denominator(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """What its mean over these rows is divided by, a number known without the student.

        Of a batch that is taken in parts, each part counts for its share of this. Here it is the number of rows,
        for the means of a loss that compares rows with one another know no better: its parts are other batches,
        and their mean is not the value of the whole.
        """
        return every(teacher, batch).sum()

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """A soft target (B, outputs) for students that are fitted rather than descended, if there is one."""
        return None

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures at which it needs the tail of top-k knowledge."""
        return ()


class RowTerm(Term):
    """A loss that is a mean over rows; a subclass says what each row loses, and for how much it counts.

    Rows with a `weight` in the batch are weighed here, so that every such loss, hard or soft, weighs alike.
    Losses that compare rows with one another have no row to weigh; they are plain terms.
    """

    rowwise: ClassVar[bool] = True

    @abstractmethod
    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """What each row loses.

        Args:
            student: signals by name, first axis B, with gradients.
            teacher: signals by name, first axis B, without gradients; empty where there is none.
            batch: targets and inputs by name, first axis B.

        Returns:
            Losses (B,), summed over all that a row is counted for.
        """

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """For how much each row counts, (B,): 1, unless a subclass knows better.

        0 for a row that has nothing to say, such as one without a label; the number of its steps for a sequence
        whose loss is a sum over steps. A look at the teacher makes a live one answer all parts of a batch before
        the first is learnt from, so the batch is asked first.
        """
        return every(teacher, batch)

    def denominator(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The sum of what counts, by weight."""
        return _weighed(self.counts(teacher, batch), batch).sum()

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, the (weighted) mean over what counts; 0 where nothing does."""
        # Counted first, as the parts of a batch are: what the rows change in the term is for the next batch.
        counts = self.counts(teacher, batch)
        losses = self.rows(student, teacher, batch)
        # Masked before the sum: a skipped row's infinity must not become NaN.
        losses = torch.where(counts if counts.dtype == torch.bool else counts > 0, losses, 0.0)
        losses, counts = (_weighed(values, batch, losses.dtype) for values in (losses, counts))
        # Where nothing counts, 0 is divided by the least number there is.
        return losses.sum() / counts.sum().clamp(min=torch.finfo(losses.dtype).tiny)


def every(teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """A 1 for each row, (B,), where the tensors are."""
    known = (value for signals in (batch, teacher) for value in signals.values() if isinstance(value, Tensor))
    first = next(known)
    return torch.ones(len(first), device=first.device)


def _weighed(values: Tensor, batch: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    """Times the rows' weights, where they have any."""
    return values.to(dtype) * batch["weight"].to(dtype) if "weight" in batch else values.to(dtype)


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

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The sum over pairs of the mean over places."""
        mask = batch.get("mask")
        return torch.stack([over_places(self.pair(*both), mask) for both in self.pairs(student, teacher)]).sum(0)


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
