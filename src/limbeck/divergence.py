"""Divergences between softened distributions: how they read signals, whole or top-k, with or without steps."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.bucketed import LOW, bucketed
from limbeck.errors import UserError
from limbeck.objective import RowTerm
from limbeck.piecewise import RowLoss, piecewise
from limbeck.setting import above_zero
from limbeck.steps import by_step

TINY = torch.finfo(torch.float32).tiny
FLOOR = math.log(TINY)
"""The logarithm of the least probability that a teacher is taken to give where the student is weighed by it."""


def softened(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log softmax(x / T) of both, (..., C), float32; no gradient reaches the teacher's.

    >>> [x.exp().tolist() for x in softened(torch.zeros(1, 2), torch.tensor([[-torch.inf, 1.0]]), 4.0)]
    [[[0.5, 0.5]], [[0.0, 1.0]]]
    """
    q_log = torch.log_softmax(tempered(student, temperature).clamp(min=LOW), -1)
    return q_log, torch.log_softmax(tempered(teacher.detach(), temperature), -1).clamp_(min=LOW)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits / T, float32."""
    return logits.float() if temperature == 1 else logits.float() / temperature


def relative_entropy(p_log: Tensor, q_log: Tensor, *, p: Tensor | None = None) -> Tensor:
    """KL(p || q) over the last axis, nats; classes to which p gives nothing cost nothing.

    Args:
        p_log: logarithms, (..., C), finite: `softened` gives -1e30 where others give -inf, for 0 times
            that is 0, and 0 times infinity is not.
        q_log: likewise.
        p: exp(p_log), where the caller has it already.

    >>> round(relative_entropy(torch.tensor([0.0, -1e30]), torch.tensor([0.5, 0.5]).log()).item(), 4)
    0.6931
    """
    return torch.linalg.vecdot(p_log.exp() if p is None else p, p_log - q_log)


def mixed_log(p: Tensor, q: Tensor, share: float) -> Tensor:
    """The logarithm of share * p + (1 - share) * q, finite."""
    return torch.lerp(q, p, share).clamp(min=TINY).log()


class Divergence(RowTerm):
    """A loss between two softened distributions; a subclass says which.

    | reads | from |
    |---|---|
    | the signal (B, C) or (B, T, C), or its `.ids`, `.values` (.., K) and `.tail` | teacher |
    | the signal, (B, C) or (B, T, C) | student |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        temperature: T > 0, of both.
        signal: the name of the logits.
    """

    whole: ClassVar[bool] = False
    """Whether it needs the logits of all classes, so that top-k knowledge will not do."""

    def __init__(self, *, temperature: float, signal: str) -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        self.signal = signal

    @abstractmethod
    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The divergence of raw logits, (N, C) each -> (N,), at the term's temperature."""

    def rows(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Nats a row, summed over its steps, and how many these are; a row without steps counts as one."""
        loss, known = self.beside(teacher)
        return by_step(piecewise(loss), [student[self.signal], *known], batch)

    def beside(self, teacher: Mapping[str, Tensor]) -> tuple[RowLoss, list[Tensor]]:
        """How rows lose beside what a teacher says, whole or top-k.

        Returns:
            A loss (the student's raw logits (N, C), what the teacher says of these rows) -> (N,), and what this
            teacher says, (B, ...) or (B, T, ...) each.

        Raises:
            UserError: only top-k knowledge is there, and the loss needs all, or its tail at another temperature.
        """
        if f"{self.signal}.ids" not in teacher:
            return self.between, [teacher[self.signal]]
        if self.whole:
            raise UserError(
                f"this loss needs all of '{self.signal}', of which only the top is stored: label without 'top'"
            )
        ids, values = teacher[f"{self.signal}.ids"].long(), teacher[f"{self.signal}.values"]
        return self._merged, [ids, values, tail_at(teacher, self.signal, self.temperature)]

    def _merged(self, student: Tensor, ids: Tensor, values: Tensor, tail: Tensor) -> Tensor:
        return self.between(*bucketed(student, ids, values, tail, temperature=self.temperature))

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's distribution (B, C), not softened: a fitted student answers what it was fitted to."""
        if self.signal not in teacher or teacher[self.signal].ndim != 2:
            return None
        return torch.softmax(teacher[self.signal].float(), 1)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Its own."""
        return (self.temperature,)


def tail_at(teacher: Mapping[str, Tensor], signal: str, temperature: float) -> Tensor:
    """The mass (B,) or (B, T) that top-k knowledge leaves outside its entries at this temperature.

    Raises:
        UserError: it was not kept at this temperature.
    """
    kept: tuple[float, ...] = getattr(teacher, "tail_temperatures", ())
    if temperature not in kept:
        raise UserError(
            f"the stored top-k knowledge has its tail at temperatures {list(kept)}, not {temperature}; "
            "label again with this temperature"
        )
    return teacher[f"{signal}.tail"][..., kept.index(temperature)]
