"""Fitted families that are asked together: how members are made, fitted and heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck import parts
from limbeck.errors import UserError
from limbeck.estimator import Asked, Estimator
from limbeck.types import Array

CHUNK = 8192
Spec = Mapping[str, Any]
"""`{model: <family>, <setting>: ...}`."""


class Committee(nn.Module):
    """The logarithm of the mean of members' probabilities.

    Args:
        members: each says logits (B, C) of the features.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def each(self, features: Tensor) -> Tensor:
        """What each member says, as logarithms of probabilities, (members, B, C)."""
        return torch.stack([torch.log_softmax(member(features)["logits"], 1) for member in self.members])

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        return {"logits": torch.logsumexp(self.each(features), 0)}


def member_of(spec: Spec, who: str) -> Estimator:
    """A member's family.

    Raises:
        UserError: it names no fitted family of tables.
    """
    settings = dict(spec)
    name = settings.pop("model", None)
    if not isinstance(name, str):
        raise UserError(f"{who}: a member says {dict(spec)}; {{model: <family>, <setting>: ...}} was wanted")
    family = parts.make("models", name, settings)
    if not isinstance(family, Estimator):
        raise UserError(f"{who}: '{name}' cannot be a member; take families that are fitted to a table's columns")
    return family


@dataclass(frozen=True)
class Member:
    """A family with a module of its own.

    Args:
        family: knows how to fit.
        module: to be fitted.
    """

    family: Estimator
    module: nn.Module

    def fit(self, asked: Asked) -> None:
        """Fit to what was asked; members see soft targets as they would alone."""
        self.family.fit(self.module, {"features": asked.features}, asked.shares, asked.weight)
        self.module.eval()

    def log_shares(self, features: Array) -> Array:
        """Logarithms of probabilities, float64 (N, C)."""
        pieces = []
        with torch.inference_mode():
            for start in range(0, len(features), CHUNK):
                said = self.module(torch.from_numpy(features[start : start + CHUNK]))["logits"]
                pieces.append(torch.log_softmax(said.double(), 1).numpy())
        return np.concatenate(pieces)
