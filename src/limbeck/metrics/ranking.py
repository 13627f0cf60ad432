"""How good ranked lists are: hits on the way down, gain, reach and bias."""

from __future__ import annotations

import numpy as np

from limbeck.types import Array


def top_positions(scores: Array, k: int) -> Array:
    """The best k positions of every row, best first; equal scores go to the lower position.

    Args:
        scores: (B, N), -inf where an item may not be shown.
        k: at most N.

    Returns:
        Int64, (B, k); -1 where a row has fewer than k items that may be shown.

    >>> top_positions(np.array([[1.0, 3.0, 2.0]]), 2)
    array([[1, 2]])
    """
    k = min(k, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    # A threshold tie may have let a later position in, so the last score's ties are chosen again by position.
    edge = np.take_along_axis(scores, best, 1).min(1, keepdims=True)
    tied = (scores == edge).sum(1) > (np.take_along_axis(scores, best, 1) == edge).sum(1)
    for row in np.flatnonzero(tied):
        best[row] = np.argsort(-scores[row], kind="stable")[:k]
    best.sort(axis=1)
    values = np.take_along_axis(scores, best, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    answer = np.take_along_axis(best, order, 1)
    answer[np.isneginf(np.take_along_axis(scores, answer, 1))] = -1
    return answer.astype(np.int64)


def hits(top: Array, targets: Array) -> Array:
    """Which of the shown items were wanted.

    Args:
        top: positions, (B, K), -1 where nothing is shown.
        targets: positions, (B, L), padded with a negative number.

    Returns:
        Bool, (B, K).
    """
    wanted = np.where(targets < 0, -2, targets)
    return np.asarray((top[:, :, None] == wanted[:, None, :]).any(2))


def ndcg(hit: Array, wanted: Array, k: int) -> Array:
    """Normalised discounted cumulative gain of the first k, binary gains, float64 (B,).

    Args:
        hit: bool, (B, at least k), best first.
        wanted: how many items each row wanted, (B,), those outside the catalogue included.
        k: the length of the list that counts.

    Source: Jarvelin and Kekalainen 2002; the ideal list has min(k, wanted) hits.

    >>> ndcg(np.array([[True, False]]), np.array([1]), 2)
    array([1.])
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(wanted, k)]
    gain = (hit[:, :k] * discount[: hit[:, :k].shape[1]]).sum(1)
    return np.divide(gain, ideal, out=np.zeros(len(hit)), where=ideal > 0)


def recall(hit: Array, wanted: Array, k: int) -> Array:
    """Share of the wanted items among the first k, float64 (B,).

    >>> recall(np.array([[True, False]]), np.array([2]), 2)
    array([0.5])
    """
    return np.divide(hit[:, :k].sum(1), wanted, out=np.zeros(len(hit)), where=wanted > 0)


def reciprocal_rank(scores: Array, targets: Array) -> Array:
    """1 / rank of the best-placed target in the whole catalogue, 0 where none may be shown; float64 (B,).

    Equal scores count half of their ties before the target.

    >>> reciprocal_rank(np.array([[1.0, 3.0, 2.0]]), np.array([[2, -1]]))
    array([0.5])
    """
    there = targets >= 0
    own = np.where(there, np.take_along_axis(scores, np.where(there, targets, 0), 1), -np.inf)
    best = own.max(1, initial=-np.inf)[:, None]
    rank = 1.0 + (scores > best).sum(1) + 0.5 * np.maximum((scores == best).sum(1) - 1, 0)
    return np.where(np.isneginf(best[:, 0]), 0.0, 1.0 / rank)


def coverage(top: Array, items: int) -> float:
    """Share of the catalogue that is shown to somebody.

    >>> coverage(np.array([[0, 1], [1, 0]]), 4)
    0.5
    """
    return len(np.unique(top[top >= 0])) / max(items, 1)
