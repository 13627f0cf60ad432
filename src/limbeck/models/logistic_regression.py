"""Logistic regression on a table's design matrix, solved to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.encoder import Encoder
from limbeck.estimator import Asked, Estimator, LinearFeatures, linear_module
from limbeck.logistic import logistic
from limbeck.setting import above_zero
from limbeck.types import Array


@dataclass(frozen=True)
class LogisticRegression(Estimator):
    """The cross-entropy's minimum; with coefficients for people to read. For tables of many users or items take
    `sparse_logistic`, which is descended.

    Soft labels reach it whole: scikit-learn takes only labels, so a row comes once for each class, weighted by the
    teacher's probability, and the loss is the cross-entropy with the soft target.

    Args:
        inverse_l2: scikit-learn's C; less is a stronger penalty.
        iterations: of the solver at most.
    """

    inverse_l2: float = 1.0
    iterations: int = 500

    def __post_init__(self) -> None:
        above_zero("inverse_l2", self.inverse_l2)
        above_zero("iterations", self.iterations)

    def module(self, encoder: Encoder, outputs: int) -> LinearFeatures:
        """Coefficients of 0."""
        return linear_module(encoder, outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Solve with scikit-learn."""
        assert isinstance(module, LinearFeatures), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        solved = logistic(
            asked.features, asked.shares, asked.weight, inverse_l2=self.inverse_l2, iterations=self.iterations
        )
        module.take(*solved)

    def told(self, module: LinearFeatures, encoder: Encoder, labels: Sequence[str]) -> dict[str, str]:
        """Its coefficients."""
        return module.told(encoder, labels)
