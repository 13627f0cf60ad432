"""Whether a predictor is right as often as it says."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from limbeck.types import Array


class Bin(TypedDict):
    """The rows whose confidence is in [low, high): how many, how sure, how often right (None without rows)."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def reliability(probabilities: Array, label: Array, *, bins: int = 10) -> list[Bin]:
    """Rows by the probability of their likeliest class, in bins of equal width over [0, 1].

    Args:
        probabilities: (N, C).
        label: positions, (N,).
        bins: how many; the last also holds confidence 1.

    >>> found = reliability(np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([0, 0]), bins=2)
    >>> [(b["n"], b["accuracy"]) for b in found]
    [(0, None), (2, 0.5)]
    """
    counts, confidence, right = _binned(probabilities, label, bins)
    edges = np.linspace(0.0, 1.0, bins + 1).tolist()
    return [
        {
            "low": edges[i],
            "high": edges[i + 1],
            "n": int(counts[i]),
            "confidence": float(confidence[i] / counts[i]) if counts[i] else None,
            "accuracy": float(right[i] / counts[i]) if counts[i] else None,
        }
        for i in range(bins)
    ]


def ece(probabilities: Array, label: Array, *, bins: int = 10) -> float:
    """Expected calibration error: mean over rows of |accuracy - confidence| of their bin.

    Args:
        probabilities: (N, C).
        label: positions, (N,).
        bins: of equal width over [0, 1].

    Returns:
        In [0, 1], lower is better; NaN without rows.

    Source: Guo et al. 2017, equation 3.

    >>> round(ece(np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([0, 0]), bins=2), 6)
    0.25
    """
    _, confidence, right = _binned(probabilities, label, bins)
    return float(np.abs(right - confidence).sum() / len(label)) if len(label) else float("nan")


def _binned(probabilities: Array, label: Array, bins: int) -> tuple[Array, Array, Array]:
    """Rows, summed confidence and right answers of every bin, each (bins,)."""
    confidence = probabilities.max(1).astype(np.float64)
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    right = (probabilities.argmax(1) == label).astype(np.float64)
    return (
        np.bincount(place, minlength=bins),
        np.bincount(place, weights=confidence, minlength=bins),
        np.bincount(place, weights=right, minlength=bins),
    )
