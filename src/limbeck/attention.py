"""Attention in several heads, as every transformer here computes it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def attended(
    states: Tensor,
    read: nn.Linear,
    *,
    heads: int,
    bias: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """What each place sees of the places it may look at.

    Args:
        states: (B, T, D).
        read: D to 3 D: queries, keys and values, in this order.
        heads: divides D.
        bias: added to the scores, broadcast to (B, heads, T, T).
        causal: place t sees places 0 to t only.
        dropout: share of the attention weights hidden; 0 but in training.

    Returns:
        (B, T, D), the heads side by side.

    Source: Vaswani et al. 2017, section 3.2.
    """
    query, key, value = read(states).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    seen = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=bias, is_causal=causal, dropout_p=dropout
    )
    return seen.transpose(1, 2).flatten(2)
