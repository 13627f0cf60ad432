"""What students that read tokens share: the tokenizer, fitted on training texts, and a table of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.encoder import PAD, UNKNOWN, Encoder
from limbeck.encoders.tokens import Tokens
from limbeck.errors import UserError
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


class TokenVectors(nn.Module):
    """A vector a token; padding is 0.

    Args:
        size: ids, the reserved ones included.
        width: D.
        dropout: share of the vectors' numbers that training hides.
        word_dropout: share of the tokens that training shows as unknown, so that unknown ones are no surprise.
    """

    def __init__(self, size: int, width: int, *, dropout: float, word_dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(size, width, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = word_dropout
        nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[PAD] = 0.0

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, L) to vectors (B, L, D)."""
        if self.training and self.word_dropout > 0:
            hidden = torch.rand(ids.shape, device=ids.device) < self.word_dropout
            ids = torch.where(hidden & (ids != PAD), UNKNOWN, ids)
        vectors: Tensor = self.dropout(self.table(ids))
        return vectors


class WeightedTerms(nn.Module):
    """A linear model over weighted terms.

    Args:
        size: ids, the reserved ones included.
        outputs: C.
    """

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.table = nn.Embedding(size, outputs, padding_idx=PAD)
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.zeros_(self.table.weight)

    def forward(self, terms: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Ids of terms and their weights (B, L), 0 being padding, to logits (B, C)."""
        return {"logits": (self.table(terms) * weights.unsqueeze(2)).sum(1) + self.bias}


@dataclass(frozen=True)
class TokenReader:
    """Settings of every student that reads tokens.

    Args:
        vocabulary: tokens at most.
        length: tokens read of a text.
        tail: how many of these come from the end of a text that is too long.
        lowercase: forget capitals.
        algorithm: how words are cut: `bpe`, `wordpiece`, or not at all (`words`).
        width: D, numbers a token's vector.
        dropout: share of the numbers hidden in training.
        word_dropout: share of the tokens shown as unknown in training.
    """

    vocabulary: int = 8000
    length: int = 256
    tail: int = 0
    lowercase: bool = True
    algorithm: Literal["bpe", "wordpiece", "words"] = "bpe"
    width: int = 64
    dropout: float = 0.3
    word_dropout: float = 0.1

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def __post_init__(self) -> None:
        for name, share in (("dropout", self.dropout), ("word_dropout", self.word_dropout)):
            if not 0 <= share < 1:
                raise UserError(f"{name} is {share}; it must be at least 0 and below 1")
        if self.width < 1:
            raise UserError(f"width is {self.width}; it must be at least 1")

    def tokens(self, problem: Problem) -> Tokens:
        """A tokenizer of the training texts."""
        column = problem.train.role("text")
        trained = Tokens.train(
            column,
            problem.train.column(column),
            vocabulary=self.vocabulary,
            length=self.length,
            lowercase=self.lowercase,
            algorithm=self.algorithm,
        )
        return trained.cut(length=self.length, tail=self.tail)

    def encoder(self, problem: Problem) -> Encoder:
        """The tokens' ids."""
        return Encoder([self.tokens(problem)])

    def vectors(self, encoder: Encoder) -> TokenVectors:
        """Fresh vectors for the encoder's ids."""
        size = len(encoder.encodings[0])  # type: ignore[arg-type]  # those that number tokens know how many
        return TokenVectors(size, self.width, dropout=self.dropout, word_dropout=self.word_dropout)
