"""Zero-inflated log-normal likelihood: most customers want nothing more, and the others' wants have a long tail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.steps import by_step
from limbeck.term import RowTerm


def zero_inflated_log_normal(student: Tensor, truth: Tensor) -> Tensor:
    """-log(1 - p) of what is 0; of all else -log p - log N(log y; mu, sigma), less the constant log sqrt(2 pi).

    Args:
        student: the log-odds of p, mu and log sigma, (B, 3).
        truth: y, what happened, (B,), 0 or above.

    Returns:
        (B,), nats; of y above 0 up to log y, which no student can change.

    Source: Wang, Liu, Miao 2019, "A Deep Probabilistic Model for Customer Lifetime Value Prediction", equation 3.

    >>> round(zero_inflated_log_normal(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([1.0])).item(), 4)
    0.6931
    """
    student, truth = student.float(), truth.float()
    odds, level, spread = student.unbind(1)
    there = truth > 0
    logs = torch.where(there, truth, 1.0).log()
    of_amount = spread + 0.5 * ((logs - level) * (-spread).exp()) ** 2
    chance = functional.binary_cross_entropy_with_logits(odds, there.float(), reduction="none")
    return chance + torch.where(there, of_amount, 0.0)


class ZeroInflatedLogNormal(RowTerm):
    """The hard loss of what customers are worth; `squared_error` of the same parameters learns them from a teacher.

    | reads | from |
    |---|---|
    | `distribution` (B, 3) or (B, T, 3) | student |
    | `values` (B,) or (B, T), what happened | batch |

    Args:
        signal: the name of the parameters.
        truth: the name of what happened.
    """

    needs_teacher = False
    group: ClassVar[str] = "tabular"
    paper: ClassVar[str] = "Wang, Liu, Miao 2019"

    def __init__(self, *, signal: str = "distribution", truth: str = "values") -> None:
        super().__init__()
        self.signal = signal
        self.truth = truth

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return by_step(zero_inflated_log_normal, [student[self.signal], batch[self.truth]], batch)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """What happened."""
        return batch[self.truth].float()
