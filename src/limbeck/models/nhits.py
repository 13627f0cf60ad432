"""N-HiTS: blocks that each look at the window at a rate of their own and explain what the ones before left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.encoders.windows import Windows
from limbeck.errors import UserError
from limbeck.window_reader import QUANTILES, Statics, WindowReader, check_share, forecast, windows_of


class Block(nn.Module):
    """Pooled past, what is known and categories to a backcast, and to a forecast of few knots, interpolated.

    Args:
        windows: of the encoder.
        horizon: H.
        pool: periods pooled into one; also how many steps lie between two knots.
        hidden: width of both hidden layers.
        statics: numbers that categories take.
    """

    def __init__(self, windows: Windows, horizon: int, *, pool: int, hidden: int, statics: int) -> None:
        super().__init__()
        layout = windows.layout
        self.pool, self.horizon = min(pool, layout.length), horizon
        self.knots = max(1, -(-horizon // pool))
        inputs = 2 * -(-layout.length // self.pool) + (1 + windows.back + horizon) * layout.channels + statics
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.backcast = nn.Linear(hidden, layout.length)
        self.forecast = nn.Linear(hidden, self.knots * QUANTILES)

    def forward(self, past: Tensor, observed: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of past (B, L), and (B, H, Q) of the forecast."""
        pooled = [
            F.max_pool1d(one.unsqueeze(1), self.pool, self.pool, ceil_mode=True).squeeze(1) for one in (past, observed)
        ]
        states = self.body(torch.cat([*pooled, told], 1))
        knots = self.forecast(states).unflatten(1, (QUANTILES, self.knots))
        if self.knots != self.horizon:
            knots = F.interpolate(knots, size=self.horizon, mode="linear", align_corners=False)
        return past - self.backcast(states) * observed, knots.transpose(1, 2)


class Stacks(nn.Module):
    """Blocks one after another; their forecasts add up.

    Args:
        windows: of the encoder.
        horizon: H.
        pools: of the blocks, coarse first.
        hidden: width of their hidden layers.
        statics: vectors of the categories.
        dropout: share of the known numbers that training hides.
    """

    def __init__(
        self, windows: Windows, horizon: int, *, pools: Sequence[int], hidden: int, statics: Statics, dropout: float
    ) -> None:
        super().__init__()
        self.statics = statics
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            [Block(windows, horizon, pool=pool, hidden=hidden, statics=statics.width) for pool in pools]
        )

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
        told = self.statics(static, level)
        if known is not None:
            told = torch.cat([told, self.dropout(known.flatten(1))], 1)
        total: Tensor | None = None
        for block in self.blocks:
            past, found = block(past, observed, told)
            total = found if total is None else total + found
        assert total is not None, "there is a block"
        return forecast(total, level, scale)


@dataclass(frozen=True)
class Nhits(WindowReader):
    """Neural hierarchical interpolation.

    Args:
        pools: periods that each block pools into one.
        blocks: of each of those.
        hidden: width of the hidden layers.
        width: numbers a category's vector.
        dropout: share of the known numbers that training hides.
        unknown: share of the categories shown as unknown in training.

    Source: Challu et al. 2023, sections 3.1 to 3.4; a head for quantiles, and gaps and categories beside, are ours.
    """

    pools: tuple[int, ...] = (4, 2, 1)
    blocks: int = 1
    hidden: int = 256
    width: int = 8
    dropout: float = 0.0
    unknown: float = 0.01

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)
        check_share("unknown", self.unknown)
        if not self.pools or min(*self.pools, self.blocks, self.hidden, self.width) < 1:
            raise UserError(f"pools is {list(self.pools)}; one at least was wanted, and all sizes 1 or more")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        windows = windows_of(encoder)
        return Stacks(
            windows,
            outputs,
            pools=[pool for pool in self.pools for _ in range(self.blocks)],
            hidden=self.hidden,
            statics=Statics(windows, self.width, unknown=self.unknown),
            dropout=self.dropout,
        )
