"""Divergences between softened distributions: how they read signals, whole or top-k, with or without steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.bucketed import LOW, bucketed, tail_at
from limbeck.errors import UserError
from limbeck.piecewise import RowLoss, piecewise
from limbeck.setting import above_zero
from limbeck.slope import sloped, wide
from limbeck.steps import StepTerm, by_step

FLOOR = -87.0
"""The logarithm of the least probability that is told from 0: torch's exp of what lies lower is up to ninety times
slower, and the logarithm of what a teacher rules out is to stay finite where the student is weighed by it."""
Rule = Callable[[Tensor, Tensor], tuple[Tensor, Callable[[], Tensor]]]
"""(log q, log p), (..., C) each, which it may write over, to a divergence (...,), and to what works out its gradient
by the logits of q."""


def softened(
    student: Tensor, teacher: Tensor, temperature: float, *, least: float = LOW, axis: int = -1
) -> tuple[Tensor, Tensor]:
    """Log softmax(x / T) of both, float32 at least; the teacher's is `least` or more, and has no gradient.

    >>> [x.exp().tolist() for x in softened(torch.zeros(1, 2), torch.tensor([[-torch.inf, 1.0]]), 4.0)]
    [[[0.5, 0.5]], [[0.0, 1.0]]]
    """
    q_log = torch.log_softmax(tempered(student, temperature).clamp(min=LOW), axis)
    theirs = tempered(teacher.detach(), temperature).to(q_log.dtype)
    return q_log, torch.log_softmax(theirs, axis).clamp_(min=least)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits / T, float32 at least."""
    return wide(logits) if temperature == 1 else wide(logits) / temperature


def relative_entropy(p_log: Tensor, q_log: Tensor) -> Tensor:
    """KL(p || q) over the last axis, nats; classes to which p gives nothing cost nothing.

    Args:
        p_log: logarithms, (..., C), finite: `softened` gives -1e20 where others give -inf, for 0 times
            that is 0, and 0 times infinity is not.
        q_log: likewise.

    >>> round(relative_entropy(torch.tensor([0.0, -1e20]), torch.tensor([0.5, 0.5]).log()).item(), 4)
    0.6931
    """
    return torch.linalg.vecdot(p_log.exp(), p_log - q_log)


def ruled(rule: Rule, student: Tensor, teacher: Tensor, *, temperature: float, axis: int = -1) -> Tensor:
    """T^2 times a divergence of softmax(teacher / T) and softmax(student / T), whose gradient the rule knows.

    Args:
        rule: of log q and log p, of which the latter is `FLOOR` or more.
        student: raw logits of q, (..., C).
        teacher: raw logits of p, (..., C); -inf is a class the teacher rules out; no gradient reaches them.
        temperature: T > 0.
        axis: where the classes are, if not last.

    Returns:
        (...,), nats.
    """

    def losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        found, slope = rule(*softened(student, teacher, temperature, least=FLOOR, axis=axis))
        return temperature * found, slope  # the gradient by z / T is that of T times the loss by z

    return temperature * sloped(losses, axis=axis)(student, teacher)


def forward_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, axis: int = -1) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), (..., C) each -> (...,), nats; as `ruled` takes them."""
    return ruled(partial(of_relative_entropy, axis=axis), student, teacher, temperature=temperature, axis=axis)


def of_relative_entropy(q_log: Tensor, p_log: Tensor, *, axis: int = -1) -> tuple[Tensor, Callable[[], Tensor]]:
    """The rule of KL(p || q): its gradient is q - p."""
    p = p_log.exp()
    return p_log.sub_(q_log).mul_(p).sum(axis), lambda: likelihood(q_log).sub_(p)


def likelihood(log: Tensor) -> Tensor:
    """Exp of logarithms of probabilities, written over them; 1e-38 where that is less."""
    return log.clamp_(min=FLOOR).exp_()


def through_softmax(pull: Tensor, q: Tensor) -> Tensor:
    """The gradient by logits, written over `pull`: q times the gradient by q = softmax(logits), (..., C)."""
    return pull.addcmul_(q, pull.sum(-1, keepdim=True), value=-1)


class Divergence(StepTerm):
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

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row, over its steps."""
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
