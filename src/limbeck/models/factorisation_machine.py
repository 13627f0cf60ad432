"""Factorisation machine: a weight a value, and for every pair of columns the product of their vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from limbeck.column_reader import Embedder, FieldVectors, Products, columns_of
from limbeck.encoder import Encoder


class Machine(nn.Module):
    """A linear model and all products of two.

    Args:
        vectors: of the columns.
        products: of them.
        dropout: share of the vectors' numbers hidden in training.
    """

    def __init__(self, vectors: FieldVectors, products: Products, *, dropout: float) -> None:
        super().__init__()
        self.vectors = vectors
        self.products = products
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to (B, H)."""
        columns = (ids, weights, numbers)
        said: Tensor = self.products(columns, self.dropout(self.vectors(*columns)))
        return said


@dataclass(frozen=True)
class FactorisationMachine(Embedder):
    """Second-order interactions of all columns.

    Source: Rendle 2010.
    """

    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh vectors."""
        products = Products(columns_of(encoder), self.width, outputs)
        return Machine(self.vectors(encoder), products, dropout=self.dropout)
