"""Stacking: a logistic regression that learns whom of several fitted models to trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from limbeck.committee import Committee, Member, Spec, member_of
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.estimator import Asked, Estimator, LinearFeatures, seed
from limbeck.logistic import logistic
from limbeck.setting import above_zero
from limbeck.types import Array


class Stack(nn.Module):
    """A linear model of what members say.

    Args:
        committee: the members.
        outputs: C.
    """

    def __init__(self, committee: Committee, outputs: int) -> None:
        super().__init__()
        self.committee = committee
        self.judge = LinearFeatures(len(committee.members) * outputs, outputs)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        said: dict[str, Tensor] = self.judge(self.committee.each(features).permute(1, 0, 2).flatten(1))
        return said


@dataclass(frozen=True)
class Stacking(Estimator):
    """A logistic regression on the logarithms of members' probabilities for rows they were not fitted to.

    Soft labels reach each member as they do alone, and the logistic regression whole: its loss is the cross-entropy
    with the soft target.

    Args:
        members: each `{model: <fitted family>, <setting>: ...}`.
        folds: parts of the rows, each of which is answered by members fitted to the others.
        inverse_l2: of the logistic regression, scikit-learn's C; less is a stronger penalty.

    Source: Wolpert 1992, "Stacked generalization".
    """

    members: tuple[Spec, ...] = (
        {"model": "logistic_regression"},
        {"model": "random_forest", "trees": 30},
        {"model": "naive_bayes"},
    )
    folds: int = 5
    inverse_l2: float = 1.0

    def __post_init__(self) -> None:
        above_zero("inverse_l2", self.inverse_l2)
        if len(self.members) < 2 or self.folds < 2:
            raise UserError(
                f"stacking: {len(self.members)} members and {self.folds} folds; it needs 2 of each at least"
            )
        self._families()

    def _families(self) -> list[Estimator]:
        return [member_of(spec, "stacking") for spec in self.members]

    def module(self, encoder: Encoder, outputs: int) -> Stack:
        """Members that nothing was fitted to."""
        return Stack(Committee([family.module(encoder, outputs) for family in self._families()]), outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Fit members to all parts but one and ask them about that, then to all rows.

        Raises:
            UserError: there are fewer rows than folds.
        """
        assert isinstance(module, Stack), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        rows, classes = asked.shares.shape
        if rows < self.folds:
            raise UserError(f"stacking: {rows} rows have a target, and there are {self.folds} folds; take fewer")
        fold = np.random.default_rng(seed()).permutation(rows) % self.folds
        heard = np.zeros((rows, len(self.members) * classes))
        for place, (family, own) in enumerate(zip(self._families(), module.committee.members, strict=True)):
            fresh = {name: value.clone() for name, value in own.state_dict().items()}
            for out in range(self.folds):
                member = Member(family, own)
                own.load_state_dict(fresh)
                member.fit(asked.take(np.flatnonzero(fold != out)))
                held = fold == out
                heard[held, place * classes : (place + 1) * classes] = member.log_shares(asked.features[held])
            own.load_state_dict(fresh)
            Member(family, own).fit(asked)
        module.judge.take(*logistic(heard, asked.shares, asked.weight, inverse_l2=self.inverse_l2))
