"""Purchase rate: customers go on buying as often as they did; the least a model of them must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.buyer_reader import purchases, purchases_of, told
from limbeck.encoder import Encoder
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

YOUNG = 1.0
"""Of time: somebody who came just now is taken to be so old."""


class Rate(nn.Module):
    """Repeat purchases over age, times the horizon; of dollars, times the worth of a purchase.

    Args:
        horizon: looked ahead.
        dollars: whether worth is asked for.
    """

    worth: Tensor

    def __init__(self, horizon: float, *, dollars: bool) -> None:
        super().__init__()
        self.horizon = horizon
        self.dollars = dollars
        self.register_buffer("worth", torch.zeros(()))

    def forward(self, bought: Tensor) -> dict[str, Tensor]:
        """Customers (B, 4) to `values` (B, 1)."""
        known, mean = told(bought)
        count = known.frequency / known.age.clamp(min=YOUNG) * self.horizon
        each = torch.where(mean > 0, mean, self.worth) if self.dollars else self.worth
        return {"values": (count * each).unsqueeze(1)}


@dataclass(frozen=True)
class PurchaseRate:
    """A customer's own rate, and own mean amount."""

    kinds: ClassVar[Mapping[str, Kind]] = {"values": "values"}

    def encoder(self, problem: Problem) -> Encoder:
        """Three numbers of every customer's purchases, and their mean amount."""
        return purchases(problem, "bought")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Purchases worth nothing."""
        layout = purchases_of(encoder).layout
        return Rate(float(layout.horizon), dollars=layout.target == "dollars")

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """A purchase counts as 1; of dollars, as the mean amount where a customer's own is not known."""
        assert isinstance(module, Rate), "the module is this family's own"
        mean = inputs["bought"][:, 3]
        worth = float(mean[mean > 0].mean()) if module.dollars and (mean > 0).any() else 1.0
        module.load_state_dict({"worth": torch.tensor(worth)})
