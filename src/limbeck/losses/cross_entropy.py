"""Cross-entropy of labels: the hard loss of classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.term import RowTerm


def cross_entropy(student: Tensor, label: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(student) of the label.

    Args:
        student: raw logits, (B, C).
        label: positions, (B,); a row of -1 has no label, and loses 0.
        label_smoothing: share of a label that is spread evenly over all C classes, in [0, 1).

    Returns:
        (B,), nats.

    Source: label smoothing as in Szegedy et al. 2016, section 7.

    >>> import torch
    >>> round(cross_entropy(torch.zeros(1, 4), torch.tensor([2])).item(), 4)
    1.3863
    """
    return functional.cross_entropy(
        student.float(), label, reduction="none", label_smoothing=label_smoothing, ignore_index=-1
    )


class CrossEntropy(RowTerm):
    """The hard loss of classification.

    | reads | from |
    |---|---|
    | `logits` (B, C) | student |
    | `label` positions (B,), -1 without a label | batch |

    Args:
        label_smoothing: share of a label that is spread evenly over all classes, in [0, 1).
        signal: the name of the logits.
        truth: the name of the labels: a student of several tasks has one such loss for each head.
    """

    paper: ClassVar[str] = "Szegedy et al. 2016"
    needs_teacher = False

    def __init__(self, *, label_smoothing: float = 0.0, signal: str = "logits", truth: str = "label") -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1")
        self.label_smoothing = label_smoothing
        self.signal = signal
        self.truth = truth

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return cross_entropy(student[self.signal], batch[self.truth], label_smoothing=self.label_smoothing)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Rows without a label do not count."""
        return batch[self.truth] >= 0

    def target(
        self,
        teacher: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
    ) -> Tensor:
        """The labels one-hot (B, C), smoothed; rows without a label are 0. `outputs` in the batch is C."""
        label, classes = batch[self.truth], int(batch["outputs"][0])
        hot = functional.one_hot(label.clamp(min=0), classes).float()
        smooth = (1 - self.label_smoothing) * hot + self.label_smoothing / classes
        return smooth * (label >= 0).unsqueeze(1)
