"""How good predicted chances of a yes are: within every person's own rows, and as chances, over all rows at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from limbeck.types import Array

Resampled = Callable[[Array], float]
"""How often each row was drawn, (N,), to the metric over the rows drawn."""


def group_auc(chance: Array, yes: Array, group: Array) -> float:
    """AUC within each group, weighted by the group's rows; groups whose rows are all alike are left out.

    Args:
        chance: of yes, or any score, (N,).
        yes: 0 or 1, (N,).
        group: whose row it is, such as the user or the page shown, (N,).

    Returns:
        In [0, 1], higher is better, .5 for a blind guess; NaN where no group has both.

    Source: Zhu et al. 2017 (OCPC), equation 14, weighted by impressions; ties count half.

    >>> group_auc(np.array([0.1, 0.9, 0.8, 0.2, 0.5]), np.array([0, 1, 0, 1, 1]), np.array([7, 7, 8, 8, 9]))
    0.5
    """
    return resampled_group_auc(chance, yes, group)(np.ones(len(yes)))


def resampled_group_auc(chance: Array, yes: Array, group: Array) -> Resampled:
    """`group_auc` of rows drawn again and again: sorted once, a draw costs one pass."""
    order = np.lexsort((chance, group))
    score, wanted = chance[order], np.asarray(yes, bool)[order]
    _, place = np.unique(group[order], return_inverse=True)
    first = np.concatenate([[True], (np.diff(place) > 0)]) if len(order) else np.zeros(0, bool)
    # Rows of one group and one score are a step; all rows of a group follow one another.
    steps = np.flatnonzero(first | np.concatenate([[True], score[1:] != score[:-1]])) if len(order) else first
    of = place[steps]

    def value(counts: Array) -> float:
        if not len(order):
            return float("nan")
        drawn = counts[order].astype(np.float64)
        above, below = (np.add.reduceat(drawn * rows, steps) for rows in (wanted, ~wanted))
        ones, zeros = np.bincount(of, above), np.bincount(of, below)
        before = np.cumsum(below) - below - (np.cumsum(zeros) - zeros)[of]
        won = np.bincount(of, above * (before + below / 2))
        both = (ones > 0) & (zeros > 0)
        rows = (ones + zeros)[both]
        return float((won[both] / (ones * zeros)[both]) @ rows / rows.sum()) if both.any() else float("nan")

    return value


def pcoc(chance: Array, yes: Array) -> float:
    """Predicted over observed: the sum of the chances by the number of yes; 1 is right, above it promises too much.

    Args:
        chance: of yes, (N,).
        yes: 0 or 1, (N,).

    Returns:
        0 or more; NaN where there is no yes.

    Source: He et al. 2014 (Facebook), section 3, "calibration".

    >>> pcoc(np.array([0.5, 0.7]), np.array([0, 1]))
    1.2
    """
    return resampled_pcoc(chance, yes)(np.ones(len(yes)))


def resampled_pcoc(chance: Array, yes: Array) -> Resampled:
    """`pcoc` of rows drawn again and again."""

    def value(counts: Array) -> float:
        observed = float(counts @ yes)
        return float(counts @ chance) / observed if observed else float("nan")

    return value


def chance_error(chance: Array, yes: Array, *, bins: int = 10) -> float:
    """Expected calibration error of the chances of yes: rows in order of chance, in bins of as many rows each.

    Unlike `calibration.ece`, which asks how often the likelier class is right, it says something where yes is rare;
    bins of equal width would put nearly all rows into one.

    Args:
        chance: of yes, (N,).
        yes: 0 or 1, (N,).
        bins: at most; of equal chances the earlier rows fall into the lower bin.

    Returns:
        Mean over rows of |mean chance - share of yes| of their bin, in [0, 1]; NaN without rows.

    Source: Nguyen and O'Connor 2015, adaptive bins.

    >>> round(chance_error(np.array([0.2, 0.3, 0.8, 0.9]), np.array([0, 1, 1, 1]), bins=2), 6)
    0.2
    """
    if not len(yes):
        return float("nan")
    order = np.argsort(chance, kind="stable")
    edges = np.unique(np.linspace(0, len(yes), bins + 1).round().astype(np.int64))[:-1]
    gaps = np.add.reduceat((chance - yes)[order].astype(np.float64), edges)
    return float(np.abs(gaps).sum() / len(yes))
