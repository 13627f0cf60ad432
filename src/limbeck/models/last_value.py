"""Last value: every date asked about gets the last demand that was recorded."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.naive import Naive, NaiveForecast, latest


class Last(Naive):
    """The last recorded demand, repeated."""

    def points(self, past: Tensor, observed: Tensor) -> Tensor:
        """Windows (B, L) to points (B, H)."""
        return latest(past, observed)[:, None].expand(-1, self.offsets.shape[0])


@dataclass(frozen=True)
class LastValue(NaiveForecast):
    """The naive forecast of a random walk."""

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Without errors."""
        return Last(outputs)
