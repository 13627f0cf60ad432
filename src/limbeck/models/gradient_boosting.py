"""Gradient boosting by LightGBM: the strongest single model of most tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from limbeck.column_reader import as_logits, heads
from limbeck.encoder import Encoder
from limbeck.errors import MissingExtra, UserError
from limbeck.estimator import Asked, Estimator, seed
from limbeck.setting import above_zero, at_least_zero, one_or_more
from limbeck.trees import Trees, of_lightgbm
from limbeck.types import Array

RARE = 1e-6
"""Share that a class without rows is thought to have."""


class Boosted(nn.Module):
    """Sums of trees as logits; of two classes as their margin.

    Args:
        outputs: C.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trees = Trees(heads(outputs))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        return as_logits(self.trees(features))


@dataclass(frozen=True)
class GradientBoosting(Estimator):
    """Boosted trees with the cross-entropy as loss.

    Soft labels reach it whole: of two classes through LightGBM's objective `cross_entropy` (its `binary` would take
    only labels), of more through the gradient of the cross-entropy with the soft target.

    Args:
        rounds: trees, of each class where there are more than two.
        learning_rate: what each tree counts for.
        leaves: of a tree at most.
        depth: questions a tree asks a row at most; none for as many as its leaves allow.
        leaf_rows: training rows a leaf must have.
        l2: penalty on squared leaf values.
        row_share: of the rows that each tree sees, in (0, 1].
        column_share: of the features that each tree sees, in (0, 1].
    """

    rounds: int = 200
    learning_rate: float = 0.05
    leaves: int = 31
    depth: int | None = None
    leaf_rows: int = 20
    l2: float = 0.0
    row_share: float = 1.0
    column_share: float = 1.0

    standard: ClassVar[bool] = False

    def __post_init__(self) -> None:
        one_or_more("rounds", self.rounds)
        one_or_more("leaf_rows", self.leaf_rows)
        above_zero("learning_rate", self.learning_rate)
        at_least_zero("l2", self.l2)
        if self.depth is not None:
            one_or_more("depth", self.depth)
        if self.leaves < 2:
            raise UserError(f"leaves is {self.leaves}; a tree that asks anything has 2 at least")
        for name in ("row_share", "column_share"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; it is a share, above 0, 1 at most")

    def module(self, encoder: Encoder, outputs: int) -> Boosted:
        """No tree yet."""
        return Boosted(outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Grow with LightGBM.

        Raises:
            MissingExtra: LightGBM is not installed.
        """
        try:
            import lightgbm
        except ModuleNotFoundError:
            raise MissingExtra("tabular", "model 'gradient_boosting'") from None
        assert isinstance(module, Boosted), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        classes = asked.shares.shape[1]
        bias = None
        if classes == 2:
            objective: Any = "cross_entropy"
            data = lightgbm.Dataset(asked.features, asked.shares[:, 1], weight=asked.weight)
        else:
            prior = np.log(np.maximum(asked.prior, RARE))
            bias = prior - prior.mean()
            objective = soft_cross_entropy(asked.shares, asked.weight)
            start = np.tile(bias, (len(asked.shares), 1))
            data = lightgbm.Dataset(asked.features, asked.shares.argmax(1), init_score=start)
        settings = {**self._settings(), "objective": objective, "num_class": heads(classes)}
        grown = lightgbm.train(settings, data, self.rounds)
        module.trees.grow(of_lightgbm(grown.model_to_string()), bias)

    def _settings(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "max_depth": -1 if self.depth is None else self.depth,
            "min_data_in_leaf": self.leaf_rows,
            "lambda_l2": self.l2,
            "bagging_fraction": self.row_share,
            "bagging_freq": int(self.row_share < 1),
            "feature_fraction": self.column_share,
            "seed": seed(),
            "num_threads": torch.get_num_threads(),
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }


def soft_cross_entropy(shares: Array, weight: Array) -> Any:
    """The objective -sum_c p_c log softmax(said)_c, as LightGBM asks for it.

    Args:
        shares: p, (N, C).
        weight: (N,).

    Source: LightGBM's own `multiclass`, whose hessian has the factor C / (C - 1); its target may be soft here.
    """
    factor = shares.shape[1] / (shares.shape[1] - 1)

    def objective(said: Array, data: Any) -> tuple[Array, Array]:
        likely = softmax(said.reshape(shares.shape), axis=1)
        return (likely - shares) * weight[:, None], factor * likely * (1 - likely) * weight[:, None]

    return objective
