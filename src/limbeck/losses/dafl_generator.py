"""DAFL's generator: draws rows that a frozen teacher is sure of, is stirred by, and finds of all classes alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.setting import at_least_zero
from limbeck.term import Term

TINY = torch.finfo(torch.float32).tiny


def dafl_generator(
    logits: Tensor, features: Tensor, *, sure: float = 0.05, stirred: float = 0.01, balanced: float = 5 / math.log(10)
) -> Tensor:
    """The sum s mean(-log max p) - a mean |features| - b H(mean of p over rows), p = softmax(logits).

    Args:
        logits: the teacher's, on drawn rows, (B, C); the gradient passes through the teacher to who drew them.
        features: what the teacher's last layer but one says, (B, ...).
        sure: s >= 0, of the cross-entropy to the class the teacher names.
        stirred: a >= 0, of the features' mean size.
        balanced: b >= 0, of the entropy of classes over the batch, which is in nats.

    Returns:
        Scalar, without unit, not below -(a mean |features| + b log C).

    Source: Chen et al. 2019 (DAFL), with the weights of the authors' code for CIFAR: it counts entropy
    in decimal digits with weight 5, which is 5 / log 10 in nats. The student's own loss is `kl` with T = 6.

    >>> logits, features = torch.tensor([[1e4, 0.0], [0.0, 1e4]]), torch.ones(2, 3)
    >>> round(dafl_generator(logits, features, stirred=1.0, balanced=1.0).item(), 4)
    -1.6931
    """
    logs = torch.log_softmax(logits.float(), 1)
    classes = logs.exp().mean(0)
    entropy = -(classes * classes.clamp(min=TINY).log()).sum()
    return -sure * logs.amax(1).mean() - stirred * features.float().abs().mean() - balanced * entropy


class DaflGenerator(Term):
    """For a generator of rows where no data may be had: here who learns, the student, is the generator.

    Its signals are those of the frozen teacher, run on what the generator drew, with gradients: a predictor made
    of both. It compares the rows of a batch, so their `weight` is not read.

    | reads | from |
    |---|---|
    | `logits` (B, C) | student |
    | `embedding` (B, D) | student |

    Args:
        sure: weight of the teacher being sure of some class.
        stirred: weight of the size of its features.
        balanced: weight of all classes being drawn alike.
        signal: the name of the logits.
        features: the name of the features.
    """

    needs_teacher = False
    group: ClassVar[str] = "data_free"
    paper: ClassVar[str] = "Chen et al. 2019"

    def __init__(
        self,
        *,
        sure: float = 0.05,
        stirred: float = 0.01,
        balanced: float = 5 / math.log(10),
        signal: str = "logits",
        features: str = "embedding",
    ) -> None:
        super().__init__()
        self.sure = at_least_zero("sure", sure)
        self.stirred = at_least_zero("stirred", stirred)
        self.balanced = at_least_zero("balanced", balanced)
        self.signal = signal
        self.features = features

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar."""
        both = student[self.signal], student[self.features]
        return dafl_generator(*both, sure=self.sure, stirred=self.stirred, balanced=self.balanced)
