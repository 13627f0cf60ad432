"""Seasonal naive: every date asked about gets the demand of a season before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.naive import Naive, NaiveForecast, latest
from limbeck.window_reader import windows_of


class Seasonal(Naive):
    """Demand a season before each date, or two, as far as the window goes back; else the last recorded.

    Args:
        horizon: H.
        length: L.
        season: periods.
    """

    places: Tensor

    def __init__(self, horizon: int, length: int, season: int) -> None:
        super().__init__(horizon)
        steps = torch.arange(horizon)
        back = season * (steps // season + 1)
        rounds = max(1, length // season)
        places = length + steps[:, None] - back[:, None] - season * torch.arange(rounds)
        self.register_buffer("places", places, persistent=False)

    def points(self, past: Tensor, observed: Tensor) -> Tensor:
        """Windows (B, L) to points (B, H)."""
        places = self.places.clamp(min=0)
        there = (observed[:, places] > 0) & (self.places >= 0)
        # The first that was recorded: of equal maxima ONNX and torch both take the first.
        best = there.to(past.dtype).argmax(2, keepdim=True)
        seasonal = past[:, places].gather(2, best).squeeze(2)
        return torch.where(there.any(2), seasonal, latest(past, observed)[:, None])


@dataclass(frozen=True)
class SeasonalNaive(NaiveForecast):
    """The naive forecast of a season; the task's option says how long one is."""

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Without errors."""
        layout = windows_of(encoder).layout
        return Seasonal(outputs, layout.length, layout.season)
