"""SASRec: self-attention over a user's items in time; reads histories only, so new users need nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from limbeck.attention import attended
from limbeck.encoder import RESERVED, Encoder
from limbeck.encoders.history import History
from limbeck.errors import UserError
from limbeck.head import Scores
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


class Block(nn.Module):
    """Causal self-attention and a two-layer network, each on a normalised residual.

    Args:
        width: D.
        heads: attention heads; divides D.
        dropout: share dropped while training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.before = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D); step t sees steps 0 to t."""
        drop = self.dropout if self.training else 0.0
        x = x + self.drop(self.out(attended(self.before(x), self.mix, heads=self.heads, causal=True, dropout=drop)))
        return x + self.drop(self.net(self.between(x)))


class Attention(nn.Module):
    """Item and place vectors, blocks, and a dot product with the item vectors.

    Args:
        items: rows of the item table, reserved ids included.
        width, heads, layers, dropout: of the blocks.
        length: the longest history.
    """

    def __init__(self, items: int, *, width: int, heads: int, layers: int, length: int, dropout: float) -> None:
        super().__init__()
        self.item = nn.Embedding(items, width)
        self.place = nn.Embedding(length, width)
        nn.init.normal_(self.item.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.last = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(items - RESERVED))
        self.head, self.step_head = Scores(), Scores()

    def forward(self, history: Tensor) -> dict[str, Tensor]:
        """Ids (B, T), padded on the right, to scores (B, N); while training also after every step.

        Places are counted back from the latest item, so that a short and a long history end alike. While
        training the latest item is what the one before it must foretell, so they are counted from there:
        else the place that answers are given from would never be taught.
        """
        count = (history > 0).sum(1)
        latest = 2 if self.training else 1
        back = (count.unsqueeze(1) - latest - torch.arange(history.shape[1], device=history.device)).clamp(min=0)
        x = self.drop(self.item(history) + self.place(back))
        for block in self.blocks:
            x = block(x)
        x = self.last(x)
        table = self.item.weight[RESERVED:]
        end = (count - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, x.shape[2])
        said = {"scores": self.head(x.gather(1, end).squeeze(1), table, self.bias)}
        if self.training:
            said["steps"] = self.step_head(x, table, self.bias)
        return said


@dataclass(frozen=True)
class Sasrec:
    """Self-attentive sequential recommendation, with cross-entropy over the whole catalogue.

    Args:
        width: D; small (16) makes a student, larger (64) a teacher.
        layers, heads, dropout: of the attention blocks.
        length: how many of the latest items it reads.

    Source: Kang and McAuley 2018; the loss as in Klenitskiy and Vasilev 2023. Places count from the
    end, which the paper's left padding does too.
    """

    width: int = 64
    layers: int = 2
    heads: int = 1
    length: int = 50
    dropout: float = 0.2

    kinds: ClassVar[Mapping[str, Kind]] = {"scores": "scores", "steps": "scores"}
    hard: ClassVar[str] = "next_item"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(f"width {self.width} is not a multiple of heads {self.heads}")

    def encoder(self, problem: Problem) -> Encoder:
        """The latest items, over the catalogue."""
        return Encoder([History("history", problem.axis.values, length=self.length)])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        shape = {"width": self.width, "heads": self.heads, "layers": self.layers, "length": self.length}
        return Attention(outputs + RESERVED, **shape, dropout=self.dropout)
