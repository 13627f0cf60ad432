"""KL of standardised logits: the student learns how its teacher's logits relate, at a scale of its own."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import Divergence, forward_kl


def standardised_kl(student: Tensor, teacher: Tensor, *, temperature: float = 2.0) -> Tensor:
    """T^2 * KL(softmax(z(teacher) / T) || softmax(z(student) / T)), z(x) = (x - mean) / deviation of the row.

    Args:
        student: raw logits, (B, C).
        teacher: raw logits, (B, C); -inf is a class the teacher rules out, which neither mean counts; no gradient
            reaches them.
        temperature: T > 0, in deviations.

    Returns:
        (B,), nats; 0 for a row whose teacher's and student's logits are each all equal.

    Source: Sun et al. 2024 (Logit Standardization), algorithm 1, with their base temperature 2 and a KD weight
    of 9. The deviation divides by C as in the paper; their code divides by C - 1.

    >>> standardised_kl(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[2.0, 4.0, 8.0]])).abs().item() < 1e-6
    True
    """
    out = torch.isneginf(teacher)
    mine, theirs = _standardised(student.float(), out), _standardised(teacher.detach().float(), out)
    return forward_kl(mine, theirs, temperature=temperature)


def _standardised(logits: Tensor, out: Tensor) -> Tensor:
    # Filled before any arithmetic: a student may rule out what its teacher does.
    count = (~out).sum(-1, keepdim=True).clamp(min=1)
    known = logits.masked_fill(out, 0.0)
    centred = known - known.sum(-1, keepdim=True) / count
    # A norm, not the root of a mean: at 0 its gradient is 0, where a root's is infinite.
    norm = torch.linalg.vector_norm(centred.masked_fill(out, 0.0), dim=-1, keepdim=True)
    return (centred / (norm / count.sqrt() + 1e-7)).masked_fill(out, -torch.inf)


class StandardisedKl(Divergence):
    """For a student whose logits cannot grow as large as its teacher's: only their relations are matched.

    What the student says is then no calibrated probability: keep a hard loss beside it. Needs whole logits,
    for those that top-k knowledge leaves out count in mean and deviation.

    | reads | from |
    |---|---|
    | `logits` (B, C) or (B, T, C) | student, teacher |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        temperature: T, in standard deviations of a row's logits.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Sun et al. 2024"
    whole: ClassVar[bool] = True

    def __init__(self, *, temperature: float = 2.0, signal: str = "logits") -> None:
        super().__init__(temperature=temperature, signal=signal)

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return standardised_kl(student, teacher, temperature=self.temperature)
