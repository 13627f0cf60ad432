"""How far forecasts are off: per question, as sums, so that a mean over any of them is a quotient of sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from limbeck.types import Array

QUOTIENTS: Mapping[str, tuple[str, str]] = {
    "wape": ("absolute", "magnitude"),
    "mase": ("scaled", "scaled_steps"),
    "weighted_quantile_loss": ("pinball", "magnitude"),
    "bias": ("error", "magnitude"),
    "coverage": ("covered", "steps"),
}
"""Metric -> the sums whose quotient it is."""


def sums(
    truth: Array, values: Array, quantiles: Array, *, levels: Sequence[float], naive_error: Array
) -> dict[str, Array]:
    """What every question adds to each metric.

    Args:
        truth: (N, H), in the demand's unit; NaN at steps that do not count.
        values: points, (N, H).
        quantiles: (N, H, Q).
        levels: of the quantiles, (Q,), rising; the first and the last bound the interval that `coverage` is about.
        naive_error: the mean error of the (seasonal) naive forecast over each question's series in training, (N,); a
            question where it is NaN or 0 counts nothing for `mase`.

    Returns:
        (N,) each: `absolute_error`, the mean over steps of |value - truth|, NaN where no step counts; and sums over
        steps: `steps`, `error` (value - truth), `absolute`, `magnitude` (|truth|), `scaled` (|error| / naive error),
        `scaled_steps`, `pinball` (twice the pinball loss, mean over levels) and `covered`.
    """
    there = np.isfinite(truth)
    error = np.where(there, values - truth, 0.0)
    steps = there.sum(1).astype(np.float64)
    above = np.where(there[:, :, None], truth[:, :, None] - quantiles, 0.0)
    at = np.asarray(levels, np.float64)
    pinball = 2.0 * np.maximum(at * above, (at - 1.0) * above).mean(2)
    inside = there & (truth >= quantiles[:, :, 0]) & (truth <= quantiles[:, :, -1])
    absolute = np.abs(error).sum(1)
    known = np.isfinite(naive_error) & (naive_error > 0)
    return {
        "absolute_error": np.divide(absolute, steps, out=np.full(len(steps), np.nan), where=steps > 0),
        "steps": steps,
        "error": error.sum(1),
        "absolute": absolute,
        "magnitude": np.where(there, np.abs(truth), 0.0).sum(1),
        "scaled": np.divide(absolute, naive_error, out=np.zeros(len(steps)), where=known),
        "scaled_steps": np.where(known, steps, 0.0),
        "pinball": pinball.sum(1),
        "covered": inside.sum(1).astype(np.float64),
    }


def quotient(top: Array, bottom: Array) -> float:
    """The sum of one over the sum of another; NaN where that is 0.

    >>> quotient(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    0.5
    """
    whole = float(np.sum(bottom))
    return float(np.sum(top)) / whole if whole else float("nan")


def naive_errors(demand: Array, training: Array, *, season: int) -> Array:
    """The mean |y_t - y_(t - m)| of every series over its training span, (S,).

    Args:
        demand: (S, T), NaN where nothing was recorded.
        training: which cells train, bool (S, T).
        season: m; a series that has no two cells so far apart is measured with m = 1.

    Returns:
        (S,), in the demand's unit; NaN for a series without two such cells.

    Source: Hyndman and Koehler 2006, the denominator of MASE.
    """
    known = np.where(training, demand, np.nan)
    found = _changes(known, season)
    return np.where(np.isnan(found), _changes(known, 1), found)


def _changes(known: Array, lag: int) -> Array:
    apart = np.abs(known[:, lag:] - known[:, :-lag]) if known.shape[1] > lag else np.zeros((len(known), 0))
    there = np.isfinite(apart)
    count = there.sum(1)
    return np.divide(np.where(there, apart, 0.0).sum(1), count, out=np.full(len(known), np.nan), where=count > 0)
