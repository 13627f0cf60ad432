"""Gradient boosting with lags by LightGBM: trees over a window as a flat row, for every step and quantile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.windows import Windows
from limbeck.errors import MissingExtra, UserError
from limbeck.series import LEVELS, MEDIAN
from limbeck.setting import above_zero, one_or_more
from limbeck.trees import Tree, Trees, of_lightgbm
from limbeck.types import Array
from limbeck.window_reader import QUANTILES, WindowReader, layout_of, windows_of

if TYPE_CHECKING:
    from limbeck.task import Problem

NONE = np.zeros(0, np.int64)
SILENT = Tree(NONE, NONE.astype(np.float32), NONE, NONE, np.zeros((1, 1), np.float32))
"""A tree that says 0 of every row."""


class BoostedWindows(nn.Module):
    """Sums of trees, on the window's scale; quantiles that cross are put in order.

    Args:
        horizon: H.
        length: L, the features before the window's level and scale.
    """

    def __init__(self, horizon: int, length: int) -> None:
        super().__init__()
        self.horizon, self.length = horizon, length
        self.trees = Trees(horizon * QUANTILES)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to `values` (B, H) and `quantiles` (B, H, Q)."""
        level, scale = features[:, self.length : self.length + 1], features[:, self.length + 1 : self.length + 2]
        said = self.trees(features).unflatten(1, (self.horizon, QUANTILES))
        ordered = [said[:, :, MEDIAN]]
        for place in range(MEDIAN - 1, -1, -1):
            ordered.insert(0, torch.minimum(said[:, :, place], ordered[0]))
        for place in range(MEDIAN + 1, QUANTILES):
            ordered.append(torch.maximum(said[:, :, place], ordered[-1]))
        quantiles = torch.stack(ordered, 2) * scale[:, :, None] + level[:, :, None]
        return {"values": quantiles[:, :, MEDIAN], "quantiles": quantiles}


@dataclass(frozen=True)
class BoostedForecast(WindowReader):
    """One boosted model a step and quantile.

    From what happened each learns its quantile by the pinball loss; from a teacher's quantiles (the loss `quantile`
    offers them) each learns the teacher's own by squares.

    Args:
        rounds: trees of each.
        learning_rate: what each tree counts for.
        leaves: of a tree at most.
        leaf_rows: training questions a leaf must have.
        row_share: of the questions that each tree sees, in (0, 1].
        column_share: of the features that each tree sees, in (0, 1].

    Source: Makridakis et al. 2022, the M5 competition, whose first places were boosted trees over lags.
    """

    rounds: int = 200
    learning_rate: float = 0.05
    leaves: int = 31
    leaf_rows: int = 50
    row_share: float = 0.8
    column_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("rounds", "leaf_rows", "leaves"):
            one_or_more(name, getattr(self, name))
        above_zero("learning_rate", self.learning_rate)
        if self.leaves < 2 or not (0 < self.row_share <= 1 and 0 < self.column_share <= 1):
            raise UserError(
                f"leaves is {self.leaves}, row_share {self.row_share} and column_share {self.column_share}; 2 leaves "
                "or more were wanted, and shares above 0, 1 at most"
            )

    def encoder(self, problem: Problem) -> Encoder:
        """Windows as flat rows."""
        flat = Windows.fit(problem.train, layout_of(problem), scaling=self.scaling, back=self.back, form="flat")
        return Encoder([flat])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """No tree yet: every forecast is the window's level."""
        return BoostedWindows(outputs, windows_of(encoder).layout.length)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Grow with LightGBM.

        Args:
            module: as `module` built it.
            inputs: the encoder's tensors.
            target: what happened, (N, H), NaN at steps that do not count; or a teacher's quantiles, (N, H, Q).
            weight: (N,), or none.

        Raises:
            MissingExtra: LightGBM is not installed.
            UserError: a step has no question that counts.
        """
        try:
            import lightgbm
        except ModuleNotFoundError:
            raise MissingExtra("tabular", "model 'boosted_forecast'") from None
        assert isinstance(module, BoostedWindows), "the module is this family's own"
        features = inputs["features"]
        truth = np.asarray(target.toarray() if isinstance(target, sparse.csr_matrix) else target, np.float64)
        soft = truth.ndim == 3
        level, scale = (features[:, module.length + at].astype(np.float64) for at in (0, 1))
        seeds = torch.randint(2**31 - 1, (module.horizon,)).tolist()
        grown: list[list[Tree]] = []
        for step in range(module.horizon):
            for place, alpha in enumerate(LEVELS):
                wanted = ((truth[:, step, place] if soft else truth[:, step]) - level) / scale
                there = np.isfinite(wanted)
                if not there.any():
                    raise UserError(f"no training question has demand at step {step + 1}; nothing can be learnt of it")
                # What a unit is off by counts alike in all windows, so on their scales errors count by the scale.
                counted = scale * (1.0 if weight is None else weight)
                objective = {"objective": "regression"} if soft else {"objective": "quantile", "alpha": alpha}
                data = lightgbm.Dataset(features[there], wanted[there], weight=counted[there])
                settings = {**self._settings(), **objective, "seed": seeds[step]}
                booster = lightgbm.train(settings, data, self.rounds)
                grown.append(of_lightgbm(booster.model_to_string()))
        most = max(map(len, grown))
        # One that found nothing more to ask has stopped; trees are counted round by round.
        grown = [trees + [SILENT] * (most - len(trees)) for trees in grown]
        module.trees.grow([tree for round in zip(*grown, strict=True) for tree in round])

    def _settings(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.leaf_rows,
            "bagging_fraction": self.row_share,
            "bagging_freq": int(self.row_share < 1),
            "feature_fraction": self.column_share,
            "num_threads": torch.get_num_threads(),
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
