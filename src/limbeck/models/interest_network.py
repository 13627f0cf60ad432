"""Deep interest network: what somebody did before counts as far as it resembles what is offered now."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.column_reader import DeepEmbedder, FieldVectors, Hidden, Products, columns_of
from limbeck.encoder import Encoder


class Attention(nn.Module):
    """How much each of a history's items has to do with the one offered.

    Args:
        width: D.
        hidden: width of its hidden layer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(4 * width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, offered: Tensor, history: Tensor, there: Tensor) -> Tensor:
        """Offered (B, D), history (B, L, D) and which of it is there (B, L) to its weighted sum (B, D)."""
        wide = offered.unsqueeze(1).expand_as(history)
        both = torch.cat([wide, history, wide - history, wide * history], 2)
        # Not a softmax: how strong an interest is counts too, and an empty history is 0.
        strength = torch.sigmoid(self.score(both).squeeze(2)) * there
        return (strength.unsqueeze(2) * history).sum(1) / there.sum(1, keepdim=True).clamp(min=1.0).sqrt()


class Interest(nn.Module):
    """Histories attended to by what is offered; their sums join the other columns' vectors.

    Args:
        vectors: of the columns.
        products: of them.
        deep: hidden layers over them.
        dropout: share of the vectors' numbers hidden in training.
    """

    def __init__(self, vectors: FieldVectors, products: Products, deep: Hidden, *, dropout: float) -> None:
        super().__init__()
        width = vectors.table.embedding_dim
        self.vectors = vectors
        self.products = products
        self.deep = deep
        self.dropout = nn.Dropout(dropout)
        self.histories = tuple(n for n, place in enumerate(vectors.places) if place.field.of is not None)
        self.attention = nn.ModuleList([Attention(width, 2 * width) for _ in self.histories])

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to (B, H)."""
        slots = self.vectors.slots(ids)
        pooled = self.vectors.pooled(slots, weights)
        for attention, n in zip(self.attention, self.histories, strict=True):
            place = self.vectors.places[n]
            offered = slots[:, self.vectors.place(str(place.field.of)).slots.start]
            there = (weights[:, place.slots] > 0).to(slots.dtype)
            pooled[n] = attention(offered, slots[:, place.slots], there)
        vectors = self.dropout(self.vectors.joined(pooled, numbers))
        said: Tensor = self.products((ids, weights, numbers), vectors) + self.deep(torch.flatten(vectors, 1))
        return said


@dataclass(frozen=True)
class InterestNetwork(DeepEmbedder):
    """Attention over the columns of kind `history`; without one it is a DeepFM.

    Source: Zhou et al. 2018 (DIN), with a sigmoid in place of the bare score, the sum over the root of the history's
    length, rectifiers in place of Dice, and the products of a factorisation machine beside the hidden layers.
    """

    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        vectors = self.vectors(encoder)
        products = Products(columns_of(encoder), self.width, outputs)
        deep = Hidden((vectors.flat, *self.hidden), outputs, dropout=self.dropout)
        return Interest(vectors, products, deep, dropout=self.dropout)
