"""Hinton's soft-label loss: the student's softened distribution follows the teacher's."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from limbeck.divergence import Divergence, forward_kl


def kl(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)).

    Args:
        student: raw logits, (B, C).
        teacher: raw logits, (B, C); -inf is a class the teacher rules out; no gradient reaches them.
        temperature: T > 0.

    Returns:
        (B,), nats.

    Source: Hinton, Vinyals, Dean 2015, section 2. `torch.nn.KLDivLoss` leaves T^2 to the caller.

    >>> import torch
    >>> kl(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 4.0]])).item()
    0.0
    """
    return forward_kl(student, teacher, temperature=temperature)


class Kl(Divergence):
    """Plain knowledge distillation: the one to try first, and to beat.

    | reads | from |
    |---|---|
    | `logits` (B, C) or (B, T, C), or `logits.ids`, `.values` (.., K) and `.tail` | teacher |
    | `logits` (B, C) or (B, T, C) | student |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        temperature: T; higher shows more of how the teacher ranks the wrong classes.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Hinton et al. 2015"

    def __init__(self, *, temperature: float = 4.0, signal: str = "logits") -> None:
        super().__init__(temperature=temperature, signal=signal)

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return kl(student, teacher, temperature=self.temperature)
