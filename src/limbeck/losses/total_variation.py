"""Total variation: the mass that would have to be moved to make the student's distribution the teacher's."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import Divergence, tempered


def total_variation(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """T / 2 * sum |softmax(teacher / T) - softmax(student / T)|.

    Args:
        student: raw logits, (B, C).
        teacher: raw logits, (B, C); -inf is a class the teacher rules out; no gradient reaches them.
        temperature: T > 0.

    Returns:
        (B,), probability times T, in [0, T].

    Source: Wen et al. 2023 (f-DISTILL). The gradient of a distance between probabilities falls as
    1 / T, not as 1 / T^2 as a relative entropy's does, so T stands here where T^2 stands there; the authors
    use T = 1.

    >>> total_variation(torch.tensor([[0.0, -1e4]]), torch.zeros(1, 2)).item()
    0.5
    """
    p = torch.softmax(tempered(teacher.detach(), temperature), -1)
    q = torch.softmax(tempered(student, temperature), -1)
    return temperature / 2 * (p - q).abs().sum(-1)


class TotalVariation(Divergence):
    """For noisy teachers: bounded, and one wildly wrong class weighs no more than its mass, where in `kl` it rules.

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
    paper: ClassVar[str] = "Wen et al. 2023"

    def __init__(self, *, temperature: float = 1.0, signal: str = "logits") -> None:
        super().__init__(temperature=temperature, signal=signal)

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Probability a row, times T."""
        return total_variation(student, teacher, temperature=self.temperature)
