"""How well what customers are worth was foretold: their order, their sum, and the sums of tenths of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from limbeck.types import Array

TENTHS = 10


def gini(truth: Array, values: Array) -> float:
    """Normalised Gini coefficient: how much of what customers are worth the order of the values brings to the top.

    It is 1 for an order by what they are worth, 0 for a random one, and below 0 for one that is upside down. Customers
    of one value stand at their mean place.

    Args:
        truth: what they were worth, (N,), 0 or above.
        values: what was said, (N,); only its order counts.

    Returns:
        NaN where all customers are worth the same.

    Source: Wang, Liu, Miao 2019, section 4.2; ties by mean places are ours.

    >>> gini(np.array([0.0, 0.0, 3.0, 1.0]), np.array([1.0, 2.0, 9.0, 4.0]))
    1.0
    """
    return resampled_gini(truth, values)(np.ones(len(truth)))


def resampled_gini(truth: Array, values: Array) -> Callable[[Array], float]:
    """The same of customers drawn again: counts (N,) -> coefficient; sorting is done once."""
    said, true = (np.unique(one, return_inverse=True)[1] for one in (values, truth))

    def of(counts: Array) -> float:
        worth, whole = counts * truth, counts.sum()
        tops = [float(worth @ _places(group, counts)) for group in (said, true)]
        level = worth.sum() * (whole + 1) / 2
        best = tops[1] - level
        return float((tops[0] - level) / best) if best > 1e-12 * max(abs(level), 1e-300) else float("nan")

    return of


def _places(group: Array, counts: Array) -> Array:
    """The mean place of each row's group, from 1, where every row stands so many times."""
    size = np.bincount(group, counts)
    found: Array = (np.cumsum(size) - size + (size + 1) / 2)[group]
    return found


def rmse(truth: Array, values: Array) -> float:
    """Root of the mean squared error, in the unit of the values.

    >>> rmse(np.array([0.0, 0.0]), np.array([3.0, 3.0]))
    3.0
    """
    return resampled_rmse(truth, values)(np.ones(len(truth)))


def resampled_rmse(truth: Array, values: Array) -> Callable[[Array], float]:
    """The same of customers drawn again."""
    squares = (values - truth) ** 2
    return lambda counts: float(np.sqrt(counts @ squares / counts.sum())) if len(squares) else float("nan")


def bias(truth: Array, values: Array) -> float:
    """What was said of all together over what they were worth, less 1; NaN where they were worth nothing.

    >>> bias(np.array([1.0, 1.0]), np.array([1.0, 2.0]))
    0.5
    """
    return resampled_bias(truth, values)(np.ones(len(truth)))


def resampled_bias(truth: Array, values: Array) -> Callable[[Array], float]:
    """The same of customers drawn again."""

    def of(counts: Array) -> float:
        whole = float(counts @ truth)
        return float(counts @ values) / whole - 1 if whole > 0 else float("nan")

    return of


def tenth_error(truth: Array, values: Array) -> float:
    """Decile MAPE: over tenths of customers by what was said of them, the mean of |said - true| / true of their sums.

    What customers of one value were worth is shared among them, so that their order does not matter; tenths that were
    worth nothing are left out.

    Args:
        truth: what they were worth, (N,).
        values: what was said, (N,).

    Returns:
        0 is best; NaN where nobody was worth anything.

    Source: Wang, Liu, Miao 2019, section 4.2.

    >>> tenth_error(np.ones(20), np.full(20, 1.5))
    0.5
    """
    _, group = np.unique(values, return_inverse=True)
    shared = (np.bincount(group, truth) / np.maximum(np.bincount(group), 1))[group] if len(group) else truth
    order = np.argsort(values, kind="stable")
    errors = []
    for tenth in np.array_split(order, TENTHS):
        true, said = float(shared[tenth].sum()), float(values[tenth].sum())
        if true > 0:
            errors.append(abs(said - true) / true)
    return float(np.mean(errors)) if errors else float("nan")
