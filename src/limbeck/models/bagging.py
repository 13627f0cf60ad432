"""Bagging: one fitted family many times, each time on another sample of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from limbeck.committee import Committee, Member, Spec, member_of
from limbeck.encoder import Encoder
from limbeck.estimator import Asked, Estimator, seed
from limbeck.setting import one_or_more
from limbeck.types import Array


@dataclass(frozen=True)
class Bagging(Estimator):
    """The mean of the probabilities of models that were each fitted to rows drawn with replacement.

    Soft labels reach each member as they do alone. Bagged trees are quicker as `random_forest` with `features: 1`.

    Args:
        member: `{model: <fitted family>, <setting>: ...}`.
        count: how many.

    Source: Breiman 1996, "Bagging predictors"; how often a row is drawn is its weight.
    """

    member: Spec = field(default_factory=lambda: {"model": "decision_tree", "depth": 8})
    count: int = 10

    def __post_init__(self) -> None:
        one_or_more("count", self.count)
        member_of(self.member, "bagging")

    def module(self, encoder: Encoder, outputs: int) -> Committee:
        """Members that nothing was fitted to."""
        family = member_of(self.member, "bagging")
        return Committee([family.module(encoder, outputs) for _ in range(self.count)])

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Fit each to a sample as large as the rows."""
        assert isinstance(module, Committee), "the module is this family's own"
        asked, family = Asked.of(inputs, target, weight), member_of(self.member, "bagging")
        rows = len(asked.features)
        draw = np.random.default_rng(seed())
        for own in module.members:
            times = np.bincount(draw.integers(0, rows, rows), minlength=rows)
            drawn = replace(asked, weight=asked.weight * times)
            Member(family, own).fit(drawn)
