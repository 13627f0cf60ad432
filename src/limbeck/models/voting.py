"""Soft voting: several fitted models of different kinds, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.committee import Committee, Member, Spec, member_of
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.estimator import Asked, Estimator
from limbeck.types import Array


@dataclass(frozen=True)
class Voting(Estimator):
    """The mean of members' probabilities, as one model and one file.

    Soft labels reach each member as they do alone. (The teacher `ensemble` averages models that are trained or
    brought, of any kind, without making one of them.)

    Args:
        members: each `{model: <fitted family>, <setting>: ...}`.
    """

    members: tuple[Spec, ...] = ({"model": "logistic_regression"}, {"model": "decision_tree"}, {"model": "naive_bayes"})

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise UserError(f"voting: 'members' has {len(self.members)}; it needs 2 at least")
        self._families()

    def _families(self) -> list[Estimator]:
        return [member_of(spec, "voting") for spec in self.members]

    def module(self, encoder: Encoder, outputs: int) -> Committee:
        """Members that nothing was fitted to."""
        return Committee([family.module(encoder, outputs) for family in self._families()])

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Fit each to all rows."""
        assert isinstance(module, Committee), "the module is this family's own"
        asked = Asked.of(inputs, target, weight)
        for family, own in zip(self._families(), module.members, strict=True):
            Member(family, own).fit(asked)
