"""A network of customers: the chance that one comes back, and how much those who do will want."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from limbeck.buyer_reader import purchases, purchases_of
from limbeck.column_reader import Hidden
from limbeck.encoder import Encoder
from limbeck.encoders.purchases import Start
from limbeck.errors import UserError
from limbeck.types import Kind
from limbeck.window_reader import check_share

if TYPE_CHECKING:
    from limbeck.task import Problem

PARAMETERS = 3
"""The log-odds of coming back, and the mean and the logarithm of the deviation of the logarithm of what is wanted."""
SPREADS = (-3.0, 1.0)
"""Between which that last one stays: beyond, one odd customer's mean would outweigh all others'."""
HIGHEST = 30.0
"""Of the logarithm of a mean."""


class LogNormal(nn.Module):
    """Hidden layers, and a head of three parameters.

    Args:
        features: D.
        hidden: widths; none for a linear model.
        start: of training customers, which every answer begins at.
        dropout: share of the hidden numbers that training hides.
    """

    def __init__(self, features: int, hidden: tuple[int, ...], *, start: Start, dropout: float) -> None:
        super().__init__()
        self.deep = Hidden((features, *hidden), PARAMETERS, dropout=dropout)
        with torch.no_grad():
            self.deep.head.weight.mul_(0.1)
            odds = math.log(start.share / (1 - start.share))
            self.deep.head.bias.copy_(torch.tensor([odds, start.level, math.log(start.spread)]))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to `values` (B, 1), the mean, and `distribution` (B, 1, 3)."""
        odds, level, spread = self.deep(features).unbind(1)
        spread = spread.clamp(*SPREADS)
        mean = torch.sigmoid(odds) * (level + 0.5 * (2 * spread).exp()).clamp(max=HIGHEST).exp()
        return {"values": mean.unsqueeze(1), "distribution": torch.stack([odds, level, spread], 1).unsqueeze(1)}


@dataclass(frozen=True)
class SpendingNetwork:
    """A zero-inflated log-normal distribution for every customer; what it says of one is its mean.

    Args:
        hidden: widths of the hidden layers; none makes the three parameters linear in the features.
        dropout: share of the hidden numbers that training hides.

    Source: Wang, Liu, Miao 2019, "A Deep Probabilistic Model for Customer Lifetime Value Prediction Using Deep Neural
    Networks"; the deviation by its logarithm rather than through softplus.
    """

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.0

    kinds: ClassVar[Mapping[str, Kind]] = {"values": "values", "distribution": "values"}

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)
        if self.hidden and min(self.hidden) < 1:
            raise UserError(f"hidden is {list(self.hidden)}; widths of 1 or more were wanted, or none")

    def encoder(self, problem: Problem) -> Encoder:
        """Features of every customer's purchases."""
        return purchases(problem, "features")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights around training customers' distribution."""
        found = purchases_of(encoder)
        return LogNormal(len(found.names), self.hidden, start=found.start, dropout=self.dropout)
