"""Reverse KL: the student keeps to what the teacher finds likely, and may leave some of it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import Divergence, likelihood, ruled


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """T^2 * KL(softmax(student / T) || softmax(teacher / T)).

    Args:
        student: raw logits, (B, C).
        teacher: raw logits, (B, C); no gradient reaches them. A class it rules out with -inf, or finds less
            likely than 1e-38, counts as that likely, so that the loss stays finite.
        temperature: T > 0.

    Returns:
        (B,), nats.

    Source: Gu et al. 2024 (MiniLLM), here of each distribution rather than of whole texts, so no
    policy gradient is needed; T^2 is ours, as in Hinton et al. 2015.

    >>> round(reverse_kl(torch.tensor([[0.0, -1e4]]), torch.zeros(1, 2)).item(), 4)
    0.6931
    """
    return ruled(_rule, student, teacher, temperature=temperature)


def _rule(q_log: Tensor, p_log: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    apart = torch.sub(q_log, p_log, out=p_log)
    q = likelihood(q_log)
    loss = torch.linalg.vecdot(q, apart)
    return loss, lambda: apart.sub_(loss.unsqueeze(-1)).mul_(q)


class ReverseKl(Divergence):
    """For a student too small for all that its teacher says: it commits to the likely part, where `kl` covers all.

    | reads | from |
    |---|---|
    | `logits` (B, C) or (B, T, C), or `logits.ids`, `.values` (.., K) and `.tail` | teacher |
    | `logits` (B, C) or (B, T, C) | student |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Gu et al. 2024"

    def __init__(self, *, temperature: float = 1.0, signal: str = "logits") -> None:
        super().__init__(temperature=temperature, signal=signal)

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return reverse_kl(student, teacher, temperature=self.temperature)
