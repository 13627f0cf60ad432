"""How good predicted classes are, over all rows at once (a mean of batch means would be wrong)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from limbeck.types import Array


def accuracy(probabilities: Array, label: Array) -> float:
    """Share of rows whose likeliest class is the label; equal classes go to the first.

    Args:
        probabilities: (N, C).
        label: positions, (N,).

    Returns:
        In [0, 1], higher is better; NaN without rows.

    >>> accuracy(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]))
    0.5
    """
    return float((probabilities.argmax(1) == label).mean()) if len(label) else float("nan")


def macro_accuracy(probabilities: Array, label: Array) -> float:
    """Mean over classes of the share of a class' rows that are found: scikit-learn's balanced accuracy.

    Classes that no row has are left out.

    Args:
        probabilities: (N, C).
        label: positions, (N,).

    Returns:
        In [0, 1], higher is better, 1 / C for a blind guess; NaN without rows.

    >>> macro_accuracy(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), np.array([0, 0, 1]))
    0.5
    """
    return resampled_macro_accuracy(probabilities, label)(np.ones(len(label)))


def accuracy_at_coverage(probabilities: Array, label: Array, coverage: float = 0.8) -> float:
    """`accuracy` over the share of rows that the predictor is surest of, for who passes the others on to a person.

    How sure it is says the probability of the likeliest class. Rows equally sure at the border count alike, each
    in part.

    Args:
        probabilities: (N, C).
        label: positions, (N,).
        coverage: the share, above 0, at most 1.

    Returns:
        In [0, 1], higher is better; NaN without rows.

    Source: El-Yaniv and Wiener 2010, one less the selective risk.

    >>> accuracy_at_coverage(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]), coverage=0.5)
    1.0
    """
    return resampled_accuracy_at_coverage(probabilities, label, coverage)(np.ones(len(label)))


def macro_f1(probabilities: Array, label: Array) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN); classes neither found nor wanted are left out.

    Args:
        probabilities: (N, C).
        label: positions, (N,).

    Returns:
        In [0, 1], higher is better; NaN without rows.

    >>> macro_f1(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 1]))
    1.0
    """
    classes = probabilities.shape[1]
    said = probabilities.argmax(1)
    hits = np.bincount(label[said == label], minlength=classes)
    sizes = np.bincount(said, minlength=classes) + np.bincount(label, minlength=classes)
    there = sizes > 0
    return float((2 * hits[there] / sizes[there]).mean()) if there.any() else float("nan")


def auc(probabilities: Array, label: Array) -> float:
    """Chance that a row of a class is given more of it than a row of another; ties count half.

    Two classes: of the second. More: the mean over classes of one against the rest, over the
    classes that some rows have and some have not.

    Args:
        probabilities: (N, C), C at least 2.
        label: positions, (N,).

    Returns:
        In [0, 1], higher is better, .5 for a blind guess; NaN where every row has one class.

    Source: Mann and Whitney 1947; the macro mean is scikit-learn's `multi_class="ovr"`.

    >>> auc(np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]), np.array([0, 1, 1]))
    1.0
    """
    classes = range(1, 2) if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [area_under_curve(probabilities[:, c], label == c) for c in classes]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def area_under_curve(score: Array, positive: Array) -> float:
    """Chance that a positive row scores above a negative one, ties counting half.

    Args:
        score: (N,).
        positive: bool, (N,).

    Returns:
        In [0, 1]; NaN where all rows are alike.

    >>> area_under_curve(np.array([1.0, 1.0, 2.0]), np.array([False, True, True]))
    0.75
    """
    n = int(positive.sum())
    rest = len(positive) - n
    if n == 0 or rest == 0:
        return float("nan")
    ranks = rankdata(score)[positive].sum()
    return float((ranks - n * (n + 1) / 2) / (n * rest))


def log_loss(probabilities: Array, label: Array) -> float:
    """Mean of -ln(probability of the label), probabilities clipped to at least 1e-15.

    Args:
        probabilities: (N, C).
        label: positions, (N,).

    Returns:
        Nats, 0 or more, lower is better; NaN without rows.

    >>> round(log_loss(np.array([[0.5, 0.5]]), np.array([1])), 4)
    0.6931
    """
    own = np.take_along_axis(probabilities, label[:, None], 1).astype(np.float64)
    return float(-np.log(np.maximum(own, 1e-15)).mean()) if len(label) else float("nan")


Resampled = Callable[[Array], float]
"""How often each row was drawn, (N,), to the metric over the rows drawn."""


def resampled_accuracy(probabilities: Array, label: Array) -> Resampled:
    """`accuracy` of rows drawn again and again, all that does not depend on the draw done once."""
    return _mean_of(probabilities.argmax(1) == label)


def resampled_macro_accuracy(probabilities: Array, label: Array) -> Resampled:
    """`macro_accuracy` of rows drawn again and again."""
    hit = probabilities.argmax(1) == label

    def value(counts: Array) -> float:
        sizes, hits = np.bincount(label, counts), np.bincount(label, counts * hit)
        there = sizes > 0
        return float((hits[there] / sizes[there]).mean()) if there.any() else float("nan")

    return value


def resampled_accuracy_at_coverage(probabilities: Array, label: Array, coverage: float = 0.8) -> Resampled:
    """`accuracy_at_coverage` of rows drawn again and again: sorted once."""
    sure = probabilities.max(1)
    order = np.argsort(-sure, kind="stable")
    starts = _starts(sure[order])
    hit = (probabilities.argmax(1) == label)[order]

    def value(counts: Array) -> float:
        drawn = counts[order].astype(np.float64)
        if not drawn.any():
            return float("nan")
        many, right = np.add.reduceat(drawn, starts), np.add.reduceat(drawn * hit, starts)
        wanted = coverage * drawn.sum()
        taken = np.clip(wanted - (np.cumsum(many) - many), 0, many)
        return float((taken * right / np.maximum(many, 1)).sum() / wanted)

    return value


def resampled_log_loss(probabilities: Array, label: Array) -> Resampled:
    """`log_loss` of rows drawn again and again."""
    own = np.take_along_axis(probabilities, label[:, None], 1)[:, 0].astype(np.float64)
    return _mean_of(-np.log(np.maximum(own, 1e-15)))


def resampled_auc(probabilities: Array, label: Array) -> Resampled:
    """`auc` of rows drawn again and again: sorted once, a draw costs one pass.

    >>> area = resampled_auc(np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]), np.array([0, 1, 1]))
    >>> area(np.array([1, 1, 1])), area(np.array([2, 0, 1]))
    (1.0, 1.0)
    """
    classes = range(1, 2) if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [_area_of(probabilities[:, c], label == c) for c in classes]

    def value(counts: Array) -> float:
        known = [found for area in areas if not np.isnan(found := area(counts))]
        return float(np.mean(known)) if known else float("nan")

    return value


def _mean_of(rows: Array) -> Resampled:
    return lambda counts: float(counts @ rows / counts.sum()) if counts.any() else float("nan")


def _starts(ordered: Array) -> Array:
    """Where runs of equal numbers begin: rows of equal score are one step."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _area_of(score: Array, positive: Array) -> Resampled:
    order = np.argsort(score, kind="stable")
    ordered, wanted = score[order], positive[order]
    starts = _starts(ordered)

    def value(counts: Array) -> float:
        drawn = counts[order].astype(np.float64)
        above = np.add.reduceat(drawn * wanted, starts)
        below = np.add.reduceat(drawn * ~wanted, starts)
        pairs = above.sum() * below.sum()
        return float(above @ (np.cumsum(below) - below / 2) / pairs) if pairs else float("nan")

    return value
