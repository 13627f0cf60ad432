"""Bag of embeddings: a weighted mean of token and n-gram vectors; the fastest student there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limbeck.encoder import PAD, Encoder
from limbeck.encoders.ngrams import Ngrams
from limbeck.token_reader import TokenReader, TokenVectors

if TYPE_CHECKING:
    from limbeck.task import Problem


class Bag(nn.Module):
    """Mean of gated vectors, a hidden layer, logits.

    Args:
        vectors: of the ids.
        hidden: width of the hidden layer; 0 for none, a linear model over the mean.
        outputs: C.
        dropout: share of the mean and of the hidden layer that training hides.
    """

    def __init__(self, vectors: TokenVectors, *, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        size, width = vectors.table.weight.shape
        self.vectors = vectors
        self.gate = nn.Embedding(size, 1)
        nn.init.zeros_(self.gate.weight)
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden:
            layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(hidden or width, outputs))

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """Ids (B, L), 0 anywhere being padding, to logits (B, C)."""
        vectors = self.vectors(ids)
        there = (ids != PAD).unsqueeze(2).to(vectors.dtype)
        # Twice a sigmoid, so that a fresh gate is 1 and a word may grow as well as vanish.
        gate = 2.0 * torch.sigmoid(self.gate(ids)) * there
        mean = (vectors * gate).sum(1) / there.sum(1).clamp(min=1.0)
        return {"logits": self.head(mean)}


@dataclass(frozen=True)
class BagOfEmbeddings(TokenReader):
    """Tokens and, where asked for, their hashed n-grams, averaged with learnt weights.

    Args:
        ngrams: lengths of the n-grams, such as (2,) or (2, 3); empty for none.
        buckets: vectors that the n-grams share.
        hidden: width of the hidden layer; 0 for none.

    Source: fastText (Joulin et al. 2017), with a learnt weight a token and a hidden layer.
    """

    ngrams: tuple[int, ...] = ()
    buckets: int = 20_000
    hidden: int = 64

    def encoder(self, problem: Problem) -> Encoder:
        """Ids of tokens, each followed by the n-grams that begin there."""
        tokens = self.tokens(problem)
        return Encoder([Ngrams(tokens, orders=self.ngrams, buckets=self.buckets) if self.ngrams else tokens])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        return Bag(self.vectors(encoder), hidden=self.hidden, outputs=outputs, dropout=self.dropout)
