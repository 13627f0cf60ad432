"""A random forest: the mean of deep trees, each grown on a sample of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.estimator import Asked, Estimator, TreeShares, seed
from limbeck.setting import above_zero, one_or_more
from limbeck.trees import of_scikit_learn
from limbeck.types import Array


@dataclass(frozen=True)
class RandomForest(Estimator):
    """Regression trees on the shares of the classes.

    Soft labels reach it as numbers: each leaf says the mean of its rows' soft targets.

    Args:
        trees: how many.
        depth: questions a tree asks a row at most; none for as many as `leaf_rows` allows.
        leaf_rows: training rows a leaf must have.
        features: share of the features that each question is chosen from, in (0, 1]; 1 is bagging.
        smoothing: rows of all rows' mean that a leaf is thought to hold besides its own, above 0, so that no answer is
            exactly 0 or 1.
    """

    trees: int = 100
    depth: int | None = None
    leaf_rows: int = 5
    features: float = 0.3
    smoothing: float = 1.0

    standard: ClassVar[bool] = False

    def __post_init__(self) -> None:
        one_or_more("trees", self.trees)
        one_or_more("leaf_rows", self.leaf_rows)
        above_zero("smoothing", self.smoothing)
        if self.depth is not None:
            one_or_more("depth", self.depth)
        if not 0 < self.features <= 1:
            raise UserError(f"features is {self.features}; it is a share of the features, above 0, 1 at most")

    def module(self, encoder: Encoder, outputs: int) -> TreeShares:
        """No tree yet."""
        return TreeShares(outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Grow with scikit-learn."""
        from sklearn.ensemble import RandomForestRegressor

        assert isinstance(module, TreeShares), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        how = {"max_depth": self.depth, "min_samples_leaf": self.leaf_rows, "max_features": self.features}
        forest = RandomForestRegressor(self.trees, **how, random_state=seed())
        forest.fit(asked.features, asked.shares, sample_weight=asked.weight)
        share = 1 / self.trees
        grown = [of_scikit_learn(one.tree_, smoothing=self.smoothing, share=share) for one in forest.estimators_]
        module.trees.grow(grown)
