"""One decision tree, whose rules can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from limbeck.encoder import Encoder
from limbeck.estimator import Asked, Estimator, TreeShares, seed
from limbeck.setting import above_zero, one_or_more
from limbeck.trees import of_scikit_learn
from limbeck.types import Array


@dataclass(frozen=True)
class DecisionTree(Estimator):
    """A regression tree on the shares of the classes; its rules lie beside the artifact, in `rules.txt`.

    Soft labels reach it as numbers: each leaf says the mean of its rows' soft targets, and splits make the squared
    error within leaves small. On labels that is scikit-learn's classification tree by Gini impurity.

    Args:
        depth: questions a row is asked at most.
        leaf_rows: training rows a leaf must have.
        smoothing: rows of all rows' mean that a leaf is thought to hold besides its own, above 0, so that no answer is
            exactly 0 or 1.
    """

    depth: int = 4
    leaf_rows: int = 20
    smoothing: float = 1.0

    standard: ClassVar[bool] = False

    def __post_init__(self) -> None:
        one_or_more("depth", self.depth)
        one_or_more("leaf_rows", self.leaf_rows)
        above_zero("smoothing", self.smoothing)

    def module(self, encoder: Encoder, outputs: int) -> TreeShares:
        """No tree yet."""
        return TreeShares(outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Grow with scikit-learn."""
        from sklearn.tree import DecisionTreeRegressor

        assert isinstance(module, TreeShares), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        how = {"max_depth": self.depth, "min_samples_leaf": self.leaf_rows, "random_state": seed()}
        grown = DecisionTreeRegressor(**how).fit(asked.features, asked.shares, sample_weight=asked.weight)
        module.trees.grow([of_scikit_learn(grown.tree_, smoothing=self.smoothing)])

    def told(self, module: TreeShares, encoder: Encoder, labels: Sequence[str]) -> dict[str, str]:
        """Its rules."""
        return {"rules.txt": module.told(encoder, labels)}
