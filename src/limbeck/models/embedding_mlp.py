"""A multi-layer perceptron over the columns' vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.column_reader import DeepEmbedder, FieldVectors, Hidden
from limbeck.encoder import Encoder


class Perceptron(nn.Module):
    """Vectors side by side, hidden layers, logits.

    Args:
        vectors: of the columns.
        hidden: widths of the hidden layers.
        outputs: H.
        dropout: share of the vectors' and the hidden layers' numbers hidden in training.
    """

    def __init__(self, vectors: FieldVectors, hidden: tuple[int, ...], *, outputs: int, dropout: float) -> None:
        super().__init__()
        self.vectors = vectors
        self.dropout = nn.Dropout(dropout)
        self.deep = Hidden((vectors.flat, *hidden), outputs, dropout=dropout)

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to (B, H)."""
        flat = torch.flatten(self.vectors(ids, weights, numbers), 1)
        said: Tensor = self.deep(self.dropout(flat))
        return said


@dataclass(frozen=True)
class EmbeddingMlp(DeepEmbedder):
    """Hidden layers over the columns' vectors side by side."""

    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        return Perceptron(self.vectors(encoder), self.hidden, outputs=outputs, dropout=self.dropout)
