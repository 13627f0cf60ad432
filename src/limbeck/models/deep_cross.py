"""DCN-v2: layers that cross the columns' vectors with themselves, beside hidden layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.column_reader import DeepEmbedder, FieldVectors, Hidden
from limbeck.encoder import Encoder
from limbeck.errors import UserError


class Cross(nn.Module):
    """x0 * (W x + b) + x.

    Args:
        width: of x.
        rank: of W; 0 for a full matrix.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        full = not 0 < rank < width
        self.matrix = (
            nn.Linear(width, width)
            if full
            else nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
        )

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """Both (B, W) to (B, W)."""
        crossed: Tensor = first * self.matrix(x) + x
        return crossed


class CrossNetwork(nn.Module):
    """Crossing layers and hidden layers side by side, their logits added.

    Args:
        vectors: of the columns.
        crosses: the crossing layers.
        deep: the hidden layers.
        outputs: H.
        dropout: share of the vectors' numbers hidden in training.
    """

    def __init__(
        self, vectors: FieldVectors, crosses: Sequence[Cross], deep: Hidden, *, outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.crosses = nn.ModuleList(crosses)
        self.deep = deep
        self.head = nn.Linear(vectors.flat, outputs, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to (B, H)."""
        first = self.dropout(torch.flatten(self.vectors(ids, weights, numbers), 1))
        x = first
        for cross in self.crosses:
            x = cross(first, x)
        said: Tensor = self.head(x) + self.deep(first)
        return said


@dataclass(frozen=True)
class DeepCross(DeepEmbedder):
    """Explicit crossings of bounded order, beside hidden layers (the parallel form).

    Args:
        crosses: crossing layers; one more order of interaction each.
        rank: of their matrices; 0 for full ones.

    Source: Wang et al. 2021 (DCN V2), equations 1 and 3, without the mixture of experts.
    """

    crosses: int = 2
    rank: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crosses < 1 or self.rank < 0:
            raise UserError(f"crosses is {self.crosses} and rank {self.rank}; 1 or more and 0 or more were wanted")

    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        vectors = self.vectors(encoder)
        crosses = [Cross(vectors.flat, self.rank) for _ in range(self.crosses)]
        deep = Hidden((vectors.flat, *self.hidden), outputs, dropout=self.dropout)
        return CrossNetwork(vectors, crosses, deep, outputs=outputs, dropout=self.dropout)
