"""Generalised Jensen-Shannon divergence: between forward and reverse KL, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import FLOOR, Divergence, ruled, through_softmax
from limbeck.setting import share


def generalised_jsd(student: Tensor, teacher: Tensor, *, beta: float = 0.5, temperature: float = 1.0) -> Tensor:
    """T^2 * (b KL(p || m) + (1 - b) KL(q || m)), m = b p + (1 - b) q.

    Args:
        student: raw logits of q, (B, C).
        teacher: raw logits of p, (B, C); -inf is a class the teacher rules out; no gradient reaches them.
        beta: b, the teacher's share, in (0, 1); the gradient nears that of forward KL as it nears 0, of reverse
            KL as it nears 1.
        temperature: T > 0.

    Returns:
        (B,), nats; at most T^2 * log 2.

    Source: Agarwal et al. 2024 (GKD); T^2 is ours, as in Hinton et al. 2015.

    >>> round(generalised_jsd(torch.tensor([[0.0, -1e4]]), torch.tensor([[-1e4, 0.0]])).item(), 4)
    0.6931
    """
    return ruled(partial(_rule, beta), student, teacher, temperature=temperature)


def _rule(beta: float, q_log: Tensor, p_log: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    p, q = p_log.exp(), q_log.clamp_(min=FLOOR).exp()
    mixed = torch.lerp(q, p, beta).log_()
    loss = beta * torch.linalg.vecdot(p, p_log.sub_(mixed))
    loss += (1 - beta) * torch.linalg.vecdot(q, q_log.sub_(mixed))
    return loss, lambda: through_softmax(q_log.mul_(q).mul_(1 - beta), q)


class GeneralisedJsd(Divergence):
    """For texts that the student wrote itself, where forward or reverse KL may be huge: this one is bounded.

    | reads | from |
    |---|---|
    | `logits` (B, C) or (B, T, C), or `logits.ids`, `.values` (.., K) and `.tail` | teacher |
    | `logits` (B, C) or (B, T, C) | student |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        beta: the teacher's share in the mixture, between 0 and 1; at the ends take `kl` or `reverse_kl`.
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Agarwal et al. 2024"

    def __init__(self, *, beta: float = 0.5, temperature: float = 1.0, signal: str = "logits") -> None:
        super().__init__(temperature=temperature, signal=signal)
        self.beta = share("beta", beta, open=True)

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return generalised_jsd(student, teacher, beta=self.beta, temperature=self.temperature)
