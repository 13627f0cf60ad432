"""Skewed KL: forward or reverse, against a mixture that holds a little of both, so that it never explodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import FLOOR, Divergence, likelihood, ruled, through_softmax
from limbeck.setting import share


def skewed_kl(
    student: Tensor, teacher: Tensor, *, skew: float = 0.1, reverse: bool = False, temperature: float = 1.0
) -> Tensor:
    """T^2 * KL(p || a p + (1 - a) q), or in reverse T^2 * KL(q || a q + (1 - a) p).

    Args:
        student: raw logits of q, (B, C).
        teacher: raw logits of p, (B, C); -inf is a class the teacher rules out; no gradient reaches them.
        skew: a, in (0, 1).
        reverse: weigh by the student's distribution.
        temperature: T > 0.

    Returns:
        (B,), nats; at most T^2 * log(1 / a).

    Source: Ko et al. 2024 (DistiLLM): forward on the teacher's texts, reverse on the
    student's own (Ko et al. 2025, DistiLLM-2). Their code drops the part of the forward form that has no
    gradient; it is kept here, so that equality costs 0. T^2 is ours, as in Hinton et al. 2015.

    >>> round(skewed_kl(torch.tensor([[0.0, -1e4]]), torch.tensor([[-1e4, 0.0]])).item(), 4)
    2.3026
    """
    return ruled(partial(_reverse if reverse else _forward, skew), student, teacher, temperature=temperature)


def _forward(skew: float, q_log: Tensor, p_log: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    p, q = p_log.exp(), likelihood(q_log)
    mixed = torch.lerp(q, p, skew)
    loss = torch.linalg.vecdot(p, p_log.sub_(mixed.log()))
    return loss, lambda: through_softmax(p.mul_(q).div_(mixed).mul_(skew - 1), q)


def _reverse(skew: float, q_log: Tensor, p_log: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    p, q = likelihood(p_log), q_log.clamp_(min=FLOOR).exp()
    mixed = torch.lerp(p, q, skew)
    apart = q_log.sub_(mixed.log())
    loss = torch.linalg.vecdot(q, apart)
    return loss, lambda: through_softmax(apart.sub_(mixed.reciprocal_().mul_(q), alpha=skew).mul_(q), q)


class SkewedKl(Divergence):
    """For language models: steadier than `kl` or `reverse_kl` where student and teacher are far apart.

    | reads | from |
    |---|---|
    | `logits` (B, C) or (B, T, C), or `logits.ids`, `.values` (.., K) and `.tail` | teacher |
    | `logits` (B, C) or (B, T, C) | student |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        skew: the share of the own distribution in the mixture, between 0 and 1; the smaller, the nearer to KL.
        reverse: weigh by the student's distribution, as on texts that the student wrote.
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Ko et al. 2024"

    def __init__(
        self, *, skew: float = 0.1, reverse: bool = False, temperature: float = 1.0, signal: str = "logits"
    ) -> None:
        super().__init__(temperature=temperature, signal=signal)
        self.skew = share("skew", skew, open=True)
        self.reverse = reverse

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return skewed_kl(student, teacher, skew=self.skew, reverse=self.reverse, temperature=self.temperature)
