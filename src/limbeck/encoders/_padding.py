"""Sequences end to end to one padded array."""

from __future__ import annotations

import numpy as np

from limbeck.encoder import PAD
from limbeck.types import Array


def padded(flat: Array, counts: Array) -> Array:
    """Rows of different lengths as one array, padded on the right with 0.

    Args:
        flat: the rows' values end to end, (sum of counts,).
        counts: values of every row, int64 (B,).

    Returns:
        (B, L) of `flat`'s type; L is the longest row, at least 1 so that no axis is ever empty.

    >>> padded(np.array([5, 6, 7]), np.array([1, 0, 2]))
    array([[5, 0],
           [0, 0],
           [6, 7]])
    """
    whole = np.full((len(counts), max(1, int(counts.max(initial=0)))), PAD, flat.dtype)
    whole[np.arange(whole.shape[1]) < counts[:, None]] = flat
    return whole
