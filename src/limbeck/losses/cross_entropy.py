"""Cross-entropy of labels: the hard loss of classification."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.objective import Term


def cross_entropy(
    student: Tensor, label: Tensor, *, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean of -log softmax(student) of the label.

    Args:
        student: raw logits, (B, C).
        label: positions, (B,); rows of -1 have no label and do not count.
        weight: of the rows, (B,), 0 or more; equal by default.
        label_smoothing: share of a label that is spread evenly over all C classes, in [0, 1).

    Returns:
        Scalar, nats, (weighted) mean over the labelled rows; 0 where there are none.

    Source: label smoothing as in Szegedy et al. 2016, section 7.

    >>> round(cross_entropy(torch.zeros(2, 4), torch.tensor([2, -1])).item(), 4)
    1.3863
    """
    there = label >= 0
    logs = torch.log_softmax(student.float(), 1)
    own = logs.gather(1, label.clamp(min=0).unsqueeze(1)).squeeze(1)
    rows = -(1 - label_smoothing) * own - label_smoothing * logs.mean(1)
    count = there.float() if weight is None else there.float() * weight.float()
    # Masked before the sum: a skipped row's infinity must not become NaN.
    total = (torch.where(there, rows, 0.0) * count).sum()
    return total / torch.where(count.sum() > 0, count.sum(), 1.0)


class CrossEntropy(Term):
    """The hard loss of classification.

    | reads | from |
    |---|---|
    | `logits` (B, C) | student |
    | `label` positions (B,), -1 without a label; `weight` (B,) where there is one | batch |

    Args:
        label_smoothing: share of a label that is spread evenly over all classes, in [0, 1).
        signal: the name of the logits.
    """

    needs_teacher = False

    def __init__(self, *, label_smoothing: float = 0.0, signal: str = "logits") -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1")
        self.label_smoothing = label_smoothing
        self.signal = signal

    def forward(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
    ) -> Tensor:
        """Scalar, nats, mean over the labelled rows."""
        return cross_entropy(
            student[self.signal], batch["label"], weight=batch.get("weight"), label_smoothing=self.label_smoothing
        )

    def target(
        self,
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
    ) -> Tensor:
        """The labels one-hot (B, C), smoothed; rows without a label are 0. `outputs` in the batch is C."""
        label, classes = batch["label"], int(batch["outputs"][0])
        hot = torch.nn.functional.one_hot(label.clamp(min=0), classes).float()
        smooth = (1 - self.label_smoothing) * hot + self.label_smoothing / classes
        return smooth * (label >= 0).unsqueeze(1)
