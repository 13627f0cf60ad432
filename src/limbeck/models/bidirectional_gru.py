"""Gated recurrent units in both directions over token vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.encoder import PAD, Encoder
from limbeck.token_reader import TokenReader, TokenVectors


class BothWays(nn.Module):
    """One unit from the start, one from the end; mean and maximum of their states, logits.

    The second unit reads the text turned round rather than the padded row from its right end, so
    that padding comes last for both and can change no state that counts.

    Args:
        vectors: of the ids.
        hidden: state of one direction.
        outputs: C.
        dropout: share of the pooled numbers that training hides.
    """

    def __init__(self, vectors: TokenVectors, *, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        width = vectors.table.embedding_dim
        self.vectors = vectors
        self.onward = nn.GRU(width, hidden, batch_first=True)
        self.backward_ = nn.GRU(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * hidden, outputs)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """Ids (B, L), padded on the right, to logits (B, C)."""
        vectors = self.vectors(ids)
        there = (ids != PAD).unsqueeze(2)
        turned = vectors.gather(1, turned_places(ids).unsqueeze(2).expand_as(vectors))
        # Means and maxima do not mind the order, so the second's states stay turned round.
        states = torch.cat([every_state(self.onward, vectors), every_state(self.backward_, turned)], 2)
        mean = (states * there).sum(1) / there.sum(1).clamp(min=1)
        highest = states.masked_fill(~there, -1.0).amax(1)  # states lie between -1 and 1
        return {"logits": self.head(self.dropout(torch.cat([mean, highest], 1)))}


def turned_places(ids: Tensor) -> Tensor:
    """Where each place of the turned text comes from, int64 (B, L); padding stays where it is.

    >>> turned_places(torch.tensor([[7, 8, 9, 0]]))
    tensor([[2, 1, 0, 3]])
    """
    count = (ids != PAD).sum(1, keepdim=True)
    place = torch.arange(ids.shape[1], device=ids.device)
    return torch.where(place < count, count - 1 - place, place)


def every_state(unit: nn.GRU, vectors: Tensor) -> Tensor:
    """States (B, L, H) of a one-layer unit over vectors (B, L, D).

    The exporter would unroll PyTorch's own operator over the example's length; ONNX has one that
    does not, with the gates in another order.
    """
    if not torch.compiler.is_exporting():
        states: Tensor = unit(vectors)[0]
        return states
    read, kept, read_bias, kept_bias = (_gates(weight) for weight in unit.all_weights[0])
    weights = (read.unsqueeze(0), kept.unsqueeze(0), torch.cat([read_bias, kept_bias]).unsqueeze(0))
    said: Tensor = torch.onnx.ops.symbolic(
        "GRU",
        (vectors.transpose(0, 1), *weights),
        attrs={"hidden_size": unit.hidden_size, "linear_before_reset": 1},
        dtype=vectors.dtype,
        shape=(vectors.shape[1], 1, vectors.shape[0], unit.hidden_size),
        version=14,
    )
    return said.squeeze(1).transpose(0, 1)


def _gates(weight: Tensor) -> Tensor:
    """Reset, update, new (PyTorch) to update, reset, new (ONNX)."""
    reset, update, new = weight.chunk(3, 0)
    return torch.cat([update, reset, new], 0)


@dataclass(frozen=True)
class BidirectionalGru(TokenReader):
    """A recurrent text classifier.

    Args:
        hidden: state of one direction.

    Source: gated recurrent units, Cho et al. 2014.
    """

    hidden: int = 64

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        return BothWays(self.vectors(encoder), hidden=self.hidden, outputs=outputs, dropout=self.dropout)
