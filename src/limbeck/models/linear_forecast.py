"""A linear forecast: past demand, parted into trend and remainder, and what is known of the dates, each weighed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.encoders.windows import Windows
from limbeck.errors import UserError
from limbeck.window_reader import QUANTILES, Statics, WindowReader, forecast, windows_of


class TrendAndRemainder(nn.Module):
    """Linear maps of the window's moving average, of what is left, of what is known, and a bias a category.

    Args:
        windows: of the encoder.
        horizon: H.
        kernel: periods of the moving average.
    """

    def __init__(self, windows: Windows, horizon: int, *, kernel: int) -> None:
        super().__init__()
        length, channels = windows.layout.length, windows.layout.channels
        self.horizon = horizon
        self.kernel = min(kernel, length)
        outputs = horizon * QUANTILES
        self.trend = nn.Linear(length, outputs)
        self.remainder = nn.Linear(length, outputs, bias=False)
        self.before = nn.Linear((1 + windows.back) * channels, outputs, bias=False) if channels else None
        self.ahead = nn.Linear(channels, QUANTILES, bias=False) if channels else None
        self.statics = Statics(windows, outputs) if windows.categories else None
        for part in (self.trend, self.remainder, self.before, self.ahead):
            if part is not None:
                nn.init.zeros_(part.weight)
        nn.init.zeros_(self.trend.bias)
        if self.statics is not None and self.statics.table is not None:
            nn.init.zeros_(self.statics.table.weight)

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
        before = self.kernel - 1
        trend = F.avg_pool1d(F.pad(past, (before, 0), mode="replicate").unsqueeze(1), self.kernel, 1).squeeze(1)
        raw = self.trend(trend) + self.remainder(past - trend)
        if self.statics is not None:
            vectors = self.statics(static, level)
            raw = raw + vectors.unflatten(1, (self.statics.count, -1)).sum(1)
        raw = raw.unflatten(1, (self.horizon, QUANTILES))
        if known is not None and self.before is not None and self.ahead is not None:
            raw = raw + self.before(known[:, : -self.horizon].flatten(1)).unflatten(1, (self.horizon, QUANTILES))
            raw = raw + self.ahead(known[:, -self.horizon :])
        return forecast(raw, level, scale)


@dataclass(frozen=True)
class LinearForecast(WindowReader):
    """DLinear's kind, with known numbers and categories beside.

    Args:
        kernel: periods of the moving average that is called the trend.

    Source: Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?"; its moving average looks back
    only, and covariates, categories and quantiles are ours.
    """

    kernel: int = 5

    def __post_init__(self) -> None:
        if self.kernel < 1:
            raise UserError(f"kernel is {self.kernel}; a moving average is over 1 period at least")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Weights of 0: at first every forecast is the window's mean."""
        return TrendAndRemainder(windows_of(encoder), outputs, kernel=self.kernel)
