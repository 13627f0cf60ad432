"""Zeros: no demand at any date, the forecast that errors reward where most periods have none."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.naive import Naive, NaiveForecast


class Nothing(Naive):
    """0 for every step."""

    def points(self, past: Tensor, observed: Tensor) -> Tensor:
        """Windows (B, L), of which only B counts, to points (B, H)."""
        return 0.0 * past[:, :1].expand(-1, self.offsets.shape[0])


@dataclass(frozen=True)
class Zeros(NaiveForecast):
    """Judged beside every forecast: on intermittent series MAE and MASE may call it good."""

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Without errors."""
        return Nothing(outputs)
