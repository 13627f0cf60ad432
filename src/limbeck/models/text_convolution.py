"""Convolutions of several widths over token vectors, pooled: short phrases, wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import PAD, Encoder
from limbeck.encoders.tfidf import Tfidf
from limbeck.errors import UserError
from limbeck.token_reader import TokenReader, TokenVectors, WeightedTerms

if TYPE_CHECKING:
    from limbeck.task import Problem

WIDE_RATE = 10.0


class Phrases(nn.Module):
    """One convolution a width, its maximum and its mean over the text, logits.

    Args:
        vectors: of the ids.
        widths: tokens a phrase has.
        channels: filters a width.
        outputs: C.
        dropout: share of the pooled numbers that training hides.
        wide: a linear model over weighted terms whose logits are added, or none.
    """

    def __init__(
        self,
        vectors: TokenVectors,
        *,
        widths: Sequence[int],
        channels: int,
        outputs: int,
        dropout: float,
        wide: WeightedTerms | None = None,
    ) -> None:
        super().__init__()
        self.wide = wide
        # A term's weight is seen in few texts and starts at 0: it must move faster than shared filters.
        self.rates = {"wide.table": WIDE_RATE} if wide is not None else {}
        width = vectors.table.embedding_dim
        self.vectors = vectors
        self.filters = nn.ModuleList([nn.Conv1d(width, channels, w) for w in widths])
        self.widths = tuple(widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * channels * len(widths), outputs)

    def forward(self, ids: Tensor, terms: Tensor | None = None, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Ids (B, L), and terms with weights (B, K) for the wide part, padded on the right, to logits (B, C)."""
        vectors = self.vectors(ids).transpose(1, 2)
        there = (ids != PAD).unsqueeze(1).to(vectors.dtype)
        count = there.sum(2).clamp(min=1.0)
        pooled = []
        for width, convolution in zip(self.widths, self.filters, strict=True):
            before = (width - 1) // 2
            # Nothing is below 0 after the ReLU, so a 0 at padding never wins the maximum.
            found = F.relu(convolution(F.pad(vectors, (before, width - 1 - before)))) * there
            pooled += [found.amax(2), found.sum(2) / count]
        logits = self.head(self.dropout(torch.cat(pooled, 1)))
        if self.wide is not None and terms is not None and weights is not None:
            logits = logits + self.wide(terms, weights)["logits"]
        return {"logits": logits}


@dataclass(frozen=True)
class TextConvolution(TokenReader):
    """A convolutional text classifier.

    Args:
        widths: tokens a phrase has, one convolution each.
        channels: filters a width.
        wide: TF-IDF terms beside the convolution, the most frequent this many; 0 for none. Their linear
            model remembers single terms and pairs, the convolution generalises over their vectors.

    Source: Kim 2014, with the mean beside the maximum; the wide part as in Cheng et al. 2016 (Wide & Deep).
    """

    widths: tuple[int, ...] = (1, 2, 3, 4)
    channels: int = 64
    wide: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1:
            raise UserError(f"widths is {list(self.widths)}; it must name one width at least, each 1 or more")

    def encoder(self, problem: Problem) -> Encoder:
        """The tokens' ids, and the terms of the wide part."""
        tokens = self.tokens(problem)
        if not self.wide:
            return Encoder([tokens])
        terms = Tfidf.fit(tokens.column, problem.train.column(tokens.column), minimum=2, features=self.wide)
        return Encoder([tokens, terms])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        return Phrases(
            self.vectors(encoder),
            widths=self.widths,
            channels=self.channels,
            outputs=outputs,
            dropout=self.dropout,
            wide=WeightedTerms(len(encoder.encodings[1]), outputs) if self.wide else None,  # type: ignore[arg-type]  # a Tfidf has a length
        )
