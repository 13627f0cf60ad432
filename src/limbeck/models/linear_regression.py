"""Linear regression on log-odds: the quickest model of a table to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from limbeck.encoder import Encoder
from limbeck.estimator import Asked, Estimator, LinearFeatures, both, check_clip, linear_module
from limbeck.setting import above_zero
from limbeck.types import Array


@dataclass(frozen=True)
class LinearRegression(Estimator):
    """Ridge regression of the log-odds of soft targets, one regressor a class (of two classes: one).

    Soft labels reach it as numbers: the logarithms of the teacher's probabilities are what it regresses on.

    Args:
        l2: penalty on squared coefficients, above 0.
        clip: probabilities, and labels above all, are drawn into [clip, 1 - clip] before their logarithm.
    """

    l2: float = 1.0
    clip: float = 0.01

    def __post_init__(self) -> None:
        above_zero("l2", self.l2)
        check_clip(self.clip)

    def module(self, encoder: Encoder, outputs: int) -> LinearFeatures:
        """Coefficients of 0."""
        return linear_module(encoder, outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Solve with scikit-learn."""
        from sklearn.linear_model import Ridge

        assert isinstance(module, LinearFeatures), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        solved = Ridge(alpha=self.l2).fit(asked.features, asked.margins(self.clip), sample_weight=asked.weight)
        module.take(both(np.atleast_2d(solved.coef_)), both(np.atleast_1d(solved.intercept_)))

    def told(self, module: LinearFeatures, encoder: Encoder, labels: Sequence[str]) -> dict[str, str]:
        """Its coefficients."""
        return module.told(encoder, labels)
