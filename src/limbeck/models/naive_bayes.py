"""Naive Bayes: every feature by itself speaks for or against a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.estimator import Asked, Estimator, floats, names_of
from limbeck.setting import above_zero
from limbeck.types import Array


class SquareFeatures(nn.Module):
    """Logits that are quadratic in each feature: logarithms of densities, added up.

    Args:
        features: D.
        outputs: C.
    """

    square: Tensor
    linear: Tensor
    bias: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("square", torch.zeros(features, outputs))
        self.register_buffer("linear", torch.zeros(features, outputs))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        return {"logits": (features * features) @ self.square + features @ self.linear + self.bias}


@dataclass(frozen=True)
class NaiveBayes(Estimator):
    """Normal densities of numbers, and frequencies of features that are 0 or 1, within each class.

    Soft labels reach it whole: each row counts in every class for the teacher's probability of it, so that means,
    variances and frequencies are those expected under the teacher.

    Args:
        smoothing: rows of each value that a feature of 0 or 1 is thought to have in every class besides its own.
        spread: added to every variance, as a share of the largest one.
    """

    smoothing: float = 1.0
    spread: float = 1e-3

    def __post_init__(self) -> None:
        above_zero("smoothing", self.smoothing)
        above_zero("spread", self.spread)

    def module(self, encoder: Encoder, outputs: int) -> SquareFeatures:
        """All classes alike."""
        return SquareFeatures(len(names_of(encoder)), outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Count with scikit-learn."""
        assert isinstance(module, SquareFeatures), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        row, label, share = asked.labelled()
        classes = asked.shares.shape[1]
        # A class that nobody has takes part with a weight of next to nothing, in all rows alike.
        absent = np.setdiff1d(np.arange(classes), label)
        row = np.concatenate([row, *[np.arange(len(asked.features))] * len(absent)])
        label = np.concatenate([label, np.repeat(absent, len(asked.features))])
        share = np.concatenate([share, np.full(len(row) - len(share), 1e-6)])
        two = ((asked.features == 0) | (asked.features == 1)).all(0)
        square, linear = np.zeros((2, classes, asked.features.shape[1]))
        prior = np.bincount(label, share, classes)
        bias = np.log(prior / prior.sum())
        if two.any():
            linear[:, two], more = self._frequencies(asked.features[:, two], row, label, share)
            bias = bias + more
        if not two.all():
            square[:, ~two], linear[:, ~two], more = self._densities(asked.features[:, ~two], row, label, share)
            bias = bias + more
        state = {"square": square.T, "linear": linear.T, "bias": bias - bias.mean()}
        module.load_state_dict({name: floats(value) for name, value in state.items()})

    def _frequencies(self, features: Array, row: Array, label: Array, share: Array) -> tuple[Array, Array]:
        """Of features of 0 or 1: log-odds (C, D), and what none of them says (C,)."""
        from sklearn.naive_bayes import BernoulliNB

        counted = BernoulliNB(alpha=self.smoothing, binarize=None).fit(features[row], label, sample_weight=share)
        yes = counted.feature_log_prob_
        no = np.log1p(-np.exp(yes))
        return yes - no, no.sum(1)

    def _densities(self, features: Array, row: Array, label: Array, share: Array) -> tuple[Array, Array, Array]:
        """Of numbers: what their squares count for (C, D), they themselves (C, D), and what is left (C,)."""
        from sklearn.naive_bayes import GaussianNB

        counted = GaussianNB(var_smoothing=self.spread).fit(
            features[row].astype(np.float64), label, sample_weight=share
        )
        mean, variance = counted.theta_, counted.var_
        left = -0.5 * (mean**2 / variance + np.log(2 * np.pi * variance)).sum(1)
        return -0.5 / variance, mean / variance, left
