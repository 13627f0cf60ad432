"""Support vector machines, linear or with a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.estimator import Asked, Estimator, LinearFeatures, both, check_clip, floats, linear_module, names_of, seed
from limbeck.setting import above_zero, at_least_zero, one_or_more
from limbeck.trees import Grown
from limbeck.types import Array


class Kernels(Grown):
    """Logits that are sums of exp(-gamma |x - v|^2) over support vectors v.

    Args:
        features: D.
        outputs: C.
    """

    support: Tensor
    dual: Tensor
    bias: Tensor
    gamma: Tensor
    seen: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("support", torch.zeros(1, features))
        self.register_buffer("dual", torch.zeros(1, outputs))
        self.register_buffer("bias", torch.zeros(outputs))
        self.register_buffer("gamma", torch.ones(()))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        lengths = (features * features).sum(1, keepdim=True) + (self.support * self.support).sum(1)
        near = torch.exp(-self.gamma * (lengths - 2 * features @ self.support.T).clamp(min=0))
        return {"logits": near @ self.dual + self.bias}


@dataclass(frozen=True)
class SupportVectorMachine(Estimator):
    """Support vector regression of the log-odds of soft targets, one regressor a class (of two classes: one).

    Soft labels reach it as numbers: the logarithms of the teacher's probabilities are what it regresses on. (Machines
    that separate labels have no use for a probability.)

    Args:
        kernel: `linear`, or `gaussian`: exp(-gamma |x - v|^2).
        penalty: scikit-learn's C: what errors cost; less is a smoother answer.
        epsilon: errors of log-odds up to this cost nothing.
        gamma: of the Gaussian kernel; none: 1 / (features times their variance).
        rows: rows a kernel is fitted on at most, drawn at random, for its time grows with their square; `kept.txt`
            beside the artifact says of how many. A linear machine sees all.
        clip: probabilities, and labels above all, are drawn into [clip, 1 - clip] before their logarithm.
    """

    kernel: Literal["linear", "gaussian"] = "gaussian"
    penalty: float = 1.0
    epsilon: float = 0.1
    gamma: float | None = None
    rows: int = 3000
    clip: float = 0.01

    def __post_init__(self) -> None:
        if self.kernel not in ("linear", "gaussian"):
            raise UserError(f"kernel is '{self.kernel}'; there are: linear, gaussian")
        above_zero("penalty", self.penalty)
        at_least_zero("epsilon", self.epsilon)
        one_or_more("rows", self.rows)
        check_clip(self.clip)
        if self.gamma is not None:
            above_zero("gamma", self.gamma)

    def module(self, encoder: Encoder, outputs: int) -> LinearFeatures | Kernels:
        """It says 0."""
        if self.kernel == "linear":
            return linear_module(encoder, outputs)
        return Kernels(len(names_of(encoder)), outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Solve with scikit-learn."""
        asked = Asked.of(inputs, target, weight)
        if isinstance(module, LinearFeatures):
            self._linear(module, asked)
        else:
            self._gaussian(module, asked.drawn(self.rows), len(asked.features))

    def _linear(self, module: LinearFeatures, asked: Asked) -> None:
        from sklearn.svm import LinearSVR

        solved = []
        for margin in asked.margins(self.clip).T:
            machine = LinearSVR(C=self.penalty, epsilon=self.epsilon, random_state=seed(), max_iter=5000)
            solved.append(machine.fit(asked.features, margin, sample_weight=asked.weight))
        coefficients = np.stack([machine.coef_ for machine in solved])
        module.take(both(coefficients), both(np.concatenate([machine.intercept_ for machine in solved])))

    def _gaussian(self, module: nn.Module, asked: Asked, seen: int) -> None:
        from sklearn.svm import SVR

        features = asked.features.astype(np.float64)
        gamma = self.gamma or 1 / max(features.shape[1] * features.var(), 1e-12)
        margins = asked.margins(self.clip)
        dual, bias = np.zeros((len(features), margins.shape[1])), np.zeros(margins.shape[1])
        for at, margin in enumerate(margins.T):
            machine = SVR(C=self.penalty, epsilon=self.epsilon, gamma=gamma)
            machine.fit(features, margin, sample_weight=asked.weight)
            dual[machine.support_, at] = machine.dual_coef_[0]
            bias[at] = machine.intercept_[0]
        used = (dual != 0).any(1)
        used[0] |= not used.any()
        state = {"support": features[used], "dual": both(dual[used].T).T, "bias": both(bias), "gamma": np.array(gamma)}
        told = {name: floats(value) for name, value in state.items()}
        module.load_state_dict({**told, "seen": torch.tensor([len(features), seen])})

    def told(self, module: LinearFeatures | Kernels, encoder: Encoder, labels: Sequence[str]) -> dict[str, str]:
        """A linear machine's coefficients, or how many rows a kernel was fitted on."""
        if isinstance(module, LinearFeatures):
            return module.told(encoder, labels)
        fitted, seen = module.seen.tolist()
        said = f"{len(module.support)} support vectors, of {fitted} rows drawn from {seen} (`rows`: {self.rows}).\n"
        return {"kept.txt": said}
