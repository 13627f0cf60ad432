"""A small transformer over characters, from scratch: for scripts and spellings that tokenizers cut badly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.attention import attended
from limbeck.encoder import PAD, Encoder
from limbeck.encoders.characters import Characters
from limbeck.errors import UserError
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

FAR_BELOW = -1e4
"""Added to the scores of padding. Finite, so that a row of nothing but padding gives no NaN."""


class Block(nn.Module):
    """Attention, then a layer of its own for every place, each beside a way round.

    Args:
        width: D.
        heads: parts of D that attend on their own.
        dropout: share hidden in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_layer = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layer = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """States (B, L, D) and what is added to the attention scores, (B, 1, 1, L), to states (B, L, D)."""
        seen = attended(self.before_attention(states), self.read, heads=self.heads, bias=bias)
        states = states + self.dropout(self.write(seen))
        changed: Tensor = states + self.dropout(self.layer(self.before_layer(states)))
        return changed


class CharacterEncoder(nn.Module):
    """Character vectors, drawn together `stride` at a time, blocks, mean, logits.

    Args:
        size: ids, the reserved ones included.
        settings: the family's.
        outputs: C.
    """

    def __init__(self, size: int, settings: CharacterTransformer, outputs: int) -> None:
        super().__init__()
        width, self.stride = settings.width, settings.stride
        self.table = nn.Embedding(size, width, padding_idx=PAD)
        self.gather = nn.Conv1d(width, width, 2 * self.stride - 1, stride=self.stride)
        self.place = nn.Embedding(-(-settings.length // self.stride), width)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList([Block(width, settings.heads, settings.dropout) for _ in range(settings.layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """Ids (B, L), padded on the right, to logits (B, C)."""
        margin = self.stride - 1
        states = self.gather(F.pad(self.table(ids).transpose(1, 2), (margin, margin))).transpose(1, 2)
        place = torch.arange(states.shape[1], device=ids.device)
        # A window is there when its middle is. Indexed by place, so that both have provably one length.
        there = (ids[:, place * self.stride] != PAD).to(states.dtype)
        bias = ((1.0 - there) * FAR_BELOW)[:, None, None, :]
        states = self.dropout(states + self.place(place))
        for block in self.blocks:
            states = block(states, bias)
        there = there.unsqueeze(2)
        mean = (self.norm(states) * there).sum(1) / there.sum(1).clamp(min=1.0)
        return {"logits": self.head(self.dropout(mean))}


@dataclass(frozen=True)
class CharacterTransformer:
    """A transformer over characters.

    Args:
        vocabulary: characters at most.
        length: characters read of a text.
        lowercase: forget capitals.
        width: D, a multiple of `heads`.
        layers: blocks.
        heads: attention heads.
        stride: characters drawn together before attention, whose cost falls with its square.
        dropout: share hidden in training.

    Source: Vaswani et al. 2017 with the norms before the layers; characters are drawn together as in
    CANINE (Clark et al. 2022).
    """

    vocabulary: int = 1000
    length: int = 512
    lowercase: bool = True
    width: int = 96
    layers: int = 2
    heads: int = 4
    stride: int = 4
    dropout: float = 0.1

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "stride", "length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.heads:
            raise UserError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}; it must be at least 0 and below 1")

    def encoder(self, problem: Problem) -> Encoder:
        """The characters of the training texts."""
        column = problem.train.role("text")
        texts = problem.train.column(column)
        how = {"vocabulary": self.vocabulary, "length": self.length}
        return Encoder([Characters.fit(column, texts, lowercase=self.lowercase, **how)])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        return CharacterEncoder(len(encoder.encodings[0]), self, outputs)  # type: ignore[arg-type]  # it has a length
