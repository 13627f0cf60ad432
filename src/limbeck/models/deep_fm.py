"""DeepFM: a factorisation machine and a perceptron over the same vectors, added."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.column_reader import DeepEmbedder, FieldVectors, Hidden, Products, columns_of
from limbeck.encoder import Encoder


class WideAndDeep(nn.Module):
    """Linear part, products of two, and hidden layers.

    Args:
        vectors: of the columns, shared by products and hidden layers.
        products: of them.
        deep: hidden layers over them.
        dropout: share of the vectors' numbers hidden in training.
    """

    def __init__(self, vectors: FieldVectors, products: Products, deep: Hidden, *, dropout: float) -> None:
        super().__init__()
        self.vectors = vectors
        self.products = products
        self.deep = deep
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to (B, H)."""
        columns = (ids, weights, numbers)
        vectors = self.dropout(self.vectors(*columns))
        said: Tensor = self.products(columns, vectors) + self.deep(torch.flatten(vectors, 1))
        return said


@dataclass(frozen=True)
class DeepFm(DeepEmbedder):
    """Low-order and high-order interactions of all columns.

    Source: Guo et al. 2017.
    """

    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        vectors = self.vectors(encoder)
        products = Products(columns_of(encoder), self.width, outputs)
        deep = Hidden((vectors.flat, *self.hidden), outputs, dropout=self.dropout)
        return WideAndDeep(vectors, products, deep, dropout=self.dropout)
