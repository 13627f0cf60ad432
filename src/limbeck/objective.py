"""What a student is asked to match: weighted terms over the signals of student, teacher and batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import UserError


class Term(nn.Module, ABC):
    """One loss. A subclass names the signals it reads and calls a pure function.

    A term owns its projections and any state as parameters and buffers, which are checkpointed.
    `needs_teacher` is false for hard losses: those are what the honest twin keeps. `projects` names the
    signals whose shapes it brings together itself; all others must fit as they are.
    """

    needs_teacher: ClassVar[bool] = True
    projects: ClassVar[tuple[str, ...]] = ()

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


class Objective(nn.Module):
    """Weighted terms.

    Args:
        terms: (name, term, weight > 0); names are made unique by position.
    """

    def __init__(self, terms: Sequence[tuple[str, Term, float]]) -> None:
        super().__init__()
        if not terms:
            raise UserError("an objective needs at least one term")
        for name, _, weight in terms:
            if not weight >= 0:
                raise UserError(f"the weight of '{name}' is {weight}; it must be 0 or more")
        self.names = [
            name if [t[0] for t in terms].count(name) == 1 else f"{name}{i}" for i, (name, _, _) in enumerate(terms)
        ]
        self.terms = nn.ModuleList([term for _, term, _ in terms])
        self.weights = [float(weight) for _, _, weight in terms]

    @property
    def needs_teacher(self) -> bool:
        """Whether any term that counts does."""
        return any(t.needs_teacher for t, w in self._pairs() if w > 0)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of all terms, rising."""
        return tuple(sorted({t for term, _ in self._pairs() for t in term.temperatures}))

    def _pairs(self) -> list[tuple[Term, float]]:
        return [(term, weight) for term, weight in zip(self.terms, self.weights, strict=True) if isinstance(term, Term)]

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term's own value (detached). A term of weight 0 is not computed."""
        values: dict[str, Tensor] = {}
        total: Any = None
        for name, (term, weight) in zip(self.names, self._pairs(), strict=True):
            if weight == 0:
                continue
            value = term(student, teacher, batch)
            values[name] = value.detach()
            total = value * weight if total is None else total + value * weight
        if total is None:
            raise UserError("every term of the objective has weight 0")
        return total, values

    def without_teacher(self, hard: Term) -> Objective:
        """The honest twin's objective: the terms that need no teacher, or the hard loss where none does."""
        # At the student's full weight: a penalty on the weights, or a clipped gradient, must press both alike.
        total = sum(self.weights)
        kept = [(n, t, w) for n, (t, w) in zip(self.names, self._pairs(), strict=True) if not t.needs_teacher and w > 0]
        if not kept:
            return Objective([("hard", hard, total)])
        scale = total / sum(weight for _, _, weight in kept)
        return Objective([(name, term, weight * scale) for name, term, weight in kept])

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The weighted mean of the terms' soft targets, for fitted students.

        Raises:
            UserError: a term offers none.
        """
        total: Any = None
        for name, (term, weight) in zip(self.names, self._pairs(), strict=True):
            if weight == 0:
                continue
            soft = term.target(teacher, batch)
            if soft is None:
                raise UserError(f"loss '{name}' offers no soft target, so a fitted student cannot learn from it")
            total = soft * weight if total is None else total + soft * weight
        if total is None:
            raise UserError("every term of the objective has weight 0")
        return torch.as_tensor(total / sum(self.weights))
