"""Decoupled KL: how sure the teacher is of the label, and how it ranks all other classes, weighed apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.bucketed import LOW
from limbeck.divergence import relative_entropy, tempered
from limbeck.setting import above_zero, at_least_zero
from limbeck.term import RowTerm


def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    *,
    target_weight: float = 1.0,
    other_weight: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """T^2 * (a KL(b_t || b_s) + w KL(r_t || r_s)), b = (label, rest), r = the rest renormalised, at temperature T.

    With the teacher's own mass of the rest as `other_weight` it would be Hinton's loss: that mass, small for a
    sure teacher, is what is taken off here.

    Args:
        student: raw logits, (B, C).
        teacher: raw logits, (B, C); -inf is a class the teacher rules out; no gradient reaches them.
        label: positions, (B,); what a row of -1 loses means nothing, for it has no label.
        target_weight: a >= 0.
        other_weight: w >= 0.
        temperature: T > 0.

    Returns:
        (B,), nats; the second part is 0 for a teacher without another class.

    Source: Zhao et al. 2022 (DKD), equation 7, with the defaults of the authors' code for CIFAR-100. Their
    warm-up over 20 epochs is a schedule of the term's weight, not of this function.

    >>> same = torch.tensor([[1.0, 2.0, 3.0]])
    >>> round(decoupled_kl(same + 5, same, torch.tensor([2])).item(), 4)
    0.0
    """
    place = label.clamp(min=0).unsqueeze(1)
    b_student, r_student = _parts(tempered(student, temperature).clamp(min=LOW), place)
    b_teacher, r_teacher = _parts(tempered(teacher.detach(), temperature).clamp(min=LOW), place)
    target = relative_entropy(b_teacher, b_student)
    return temperature**2 * (target_weight * target + other_weight * relative_entropy(r_teacher, r_student))


def _parts(scaled: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of (label, rest), (B, 2), and of the rest renormalised, (B, C): LOW at the label, or all over."""
    others = scaled.scatter(1, place, LOW)
    rest = torch.logsumexp(others, 1, keepdim=True)
    both = torch.log_softmax(torch.cat([scaled.gather(1, place), rest], 1), 1)
    return both, (others - rest).scatter(1, place, LOW).masked_fill(rest < LOW / 2, LOW)


class DecoupledKl(RowTerm):
    """For sure teachers of labelled rows: `kl` hardly shows how they rank the wrong classes, this loss does.

    | reads | from |
    |---|---|
    | `logits` (B, C) | student, teacher |
    | `label` positions (B,), -1 without a label | batch |

    Args:
        target_weight: of how sure the teacher is of the label.
        other_weight: of how it ranks the other classes.
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Zhao et al. 2022"

    def __init__(
        self,
        *,
        target_weight: float = 1.0,
        other_weight: float = 8.0,
        temperature: float = 4.0,
        signal: str = "logits",
    ) -> None:
        super().__init__()
        self.target_weight = at_least_zero("target_weight", target_weight)
        self.other_weight = at_least_zero("other_weight", other_weight)
        self.temperature = above_zero("temperature", temperature)
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return decoupled_kl(
            student[self.signal],
            teacher[self.signal],
            batch["label"],
            target_weight=self.target_weight,
            other_weight=self.other_weight,
            temperature=self.temperature,
        )

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Rows without a label do not count."""
        return batch["label"] >= 0

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's distribution (B, C), not softened, at which the loss is 0."""
        return torch.softmax(teacher[self.signal].float(), 1) if self.signal in teacher else None
