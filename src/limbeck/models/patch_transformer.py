"""A transformer over patches of the window, with a token for every date asked about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.encoders.windows import Windows
from limbeck.errors import UserError
from limbeck.window_reader import QUANTILES, Statics, WindowReader, check_share, forecast, windows_of


class Layer(nn.Module):
    """Attention among tokens, then a perceptron for each; both on normalised tokens, added to them.

    Args:
        width: D.
        heads: of the attention.
        dropout: share of what is added that training hides.
    """

    def __init__(self, width: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) to tokens."""
        three = self.mixed(self.first(tokens)).chunk(3, 2)
        queries, keys, values = (one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in three)
        heard = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        tokens = tokens + self.dropout(self.out(heard))
        return tokens + self.dropout(self.body(self.second(tokens)))


class Patches(nn.Module):
    """Patches of past demand, a token a date asked about, and one of the categories.

    Args:
        windows: of the encoder.
        horizon: H.
        patch: periods of a patch.
        layers: of the transformer.
        statics: vectors of the categories.
    """

    def __init__(self, windows: Windows, horizon: int, *, patch: int, layers: list[Layer], statics: Statics) -> None:
        super().__init__()
        layout, width = windows.layout, layers[0].out.out_features
        self.patch, self.horizon = min(patch, layout.length), horizon
        # The earliest periods that fill no patch are left out.
        self.count = layout.length // self.patch
        self.patches = nn.Linear(2 * self.patch, width)
        self.ahead = nn.Linear(layout.channels, width, bias=False) if layout.channels else None
        self.before = nn.Linear((1 + windows.back) * layout.channels, width) if layout.channels else None
        self.statics = statics
        self.told = nn.Linear(statics.width, width) if statics.count else None
        self.places = nn.Parameter(torch.randn(self.count + horizon, width) * 0.02)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, QUANTILES)

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
        each = torch.stack([past, observed], 2)[:, -self.count * self.patch :]
        patches = self.patches(each.reshape(len(past), self.count, -1)) + self.places[: self.count]
        asked = self.places[self.count :].expand(len(past), -1, -1)
        if known is not None and self.ahead is not None and self.before is not None:
            before = self.before(known[:, : -self.horizon].flatten(1)).unsqueeze(1)
            asked = asked + self.ahead(known[:, -self.horizon :]) + before
        tokens = torch.cat([patches, asked], 1)
        if self.told is not None:
            tokens = torch.cat([self.told(self.statics(static, level)).unsqueeze(1), tokens], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        return forecast(self.head(self.norm(tokens[:, -self.horizon :])), level, scale)


@dataclass(frozen=True)
class PatchTransformer(WindowReader):
    """A transformer whose words are some periods each.

    Args:
        patch: periods of a patch.
        width: D, numbers a token.
        depth: layers.
        heads: of the attention.
        static: numbers a category's vector.
        dropout: share of what a layer adds that training hides.
        unknown: share of the categories shown as unknown in training.

    Source: Nie et al. 2023 (PatchTST), with patches that do not overlap; tokens of the dates asked about, as decoders
    have them, take the place of its one flat head, so that what is known of a date meets the past.
    """

    patch: int = 4
    width: int = 64
    depth: int = 2
    heads: int = 4
    static: int = 16
    dropout: float = 0.1
    unknown: float = 0.01

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)
        check_share("unknown", self.unknown)
        sizes = (self.patch, self.width, self.depth, self.heads, self.static)
        if min(sizes) < 1 or self.width % self.heads:
            raise UserError(
                f"patch, width, depth, heads and static are {list(sizes)}; 1 or more were wanted, and a width that the "
                "heads divide"
            )

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        windows = windows_of(encoder)
        layers = [Layer(self.width, self.heads, dropout=self.dropout) for _ in range(self.depth)]
        statics = Statics(windows, self.static, unknown=self.unknown)
        return Patches(windows, outputs, patch=self.patch, layers=layers, statics=statics)
