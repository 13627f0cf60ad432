"""A multilayer perceptron over a window: past demand, what is known of the dates, and categories, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.windows import Windows
from limbeck.errors import UserError
from limbeck.window_reader import QUANTILES, Statics, WindowReader, check_share, forecast, windows_of


class WindowMlp(nn.Module):
    """Hidden layers over the whole window, and a head for every step and level.

    Args:
        windows: of the encoder.
        horizon: H.
        hidden: widths.
        statics: vectors of the categories.
        dropout: share of the hidden numbers that training hides.
    """

    def __init__(
        self, windows: Windows, horizon: int, *, hidden: Sequence[int], statics: Statics, dropout: float
    ) -> None:
        super().__init__()
        layout = windows.layout
        self.statics = statics
        self.horizon = horizon
        widths = [2 * layout.length + (1 + windows.back + horizon) * layout.channels + statics.width, *hidden]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], horizon * QUANTILES)

    def forward(
        self,
        past: Tensor,
        observed: Tensor,
        level: Tensor,
        scale: Tensor,
        known: Tensor | None = None,
        static: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Windows to `values` (B, H) and `quantiles` (B, H, Q)."""
        told = [past, observed, self.statics(static, level)]
        if known is not None:
            told.append(known.flatten(1))
        states = torch.cat(told, 1)
        for layer in self.layers:
            states = self.dropout(torch.relu(layer(states)))
        return forecast(self.head(states).unflatten(1, (self.horizon, QUANTILES)), level, scale)


@dataclass(frozen=True)
class ForecastMlp(WindowReader):
    """A perceptron of windows.

    Args:
        hidden: widths of the hidden layers.
        width: numbers a category's vector.
        dropout: share of the hidden numbers that training hides.
        unknown: share of the categories shown as unknown in training.
    """

    hidden: tuple[int, ...] = (64, 64)
    width: int = 4
    dropout: float = 0.0
    unknown: float = 0.01

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)
        check_share("unknown", self.unknown)
        if not self.hidden or min(*self.hidden, self.width) < 1:
            raise UserError(f"hidden is {list(self.hidden)} and width {self.width}; widths of 1 or more were wanted")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        windows = windows_of(encoder)
        statics = Statics(windows, self.width, unknown=self.unknown)
        return WindowMlp(windows, outputs, hidden=self.hidden, statics=statics, dropout=self.dropout)
