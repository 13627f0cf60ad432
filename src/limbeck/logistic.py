"""Logistic regression by scikit-learn, on labels or on a teacher's soft targets."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse

from limbeck.errors import UserError
from limbeck.types import Array

ABSENT = -20.0
"""Logit of a class that no fitted row has, where the others' are around 0."""


def logistic(
    features: Any, target: Any, weight: Array | None, *, inverse_l2: float, iterations: int = 2000
) -> tuple[Array, Array]:
    """Fit; a soft target is a row of every class, weighted by its probability.

    Args:
        features: (N, D), dense or SciPy sparse.
        target: (N, C), dense or SciPy sparse: one-hot labels or soft targets.
        weight: (N,), or none for equal weights.
        inverse_l2: scikit-learn's C; less is a stronger penalty.
        iterations: of the solver at most; where it ends before it has converged, what it has is good enough.

    Returns:
        Coefficients (C, D) and biases (C,), float32.

    Raises:
        UserError: no row has a target.
    """
    soft = sparse.coo_array(target)
    row, label, share = soft.coords[0], soft.coords[1], soft.data.astype(np.float64)
    share = share if weight is None else share * weight[row]
    row, label, share = row[share > 0], label[share > 0], share[share > 0]
    if not len(row):
        raise UserError("no row has a target; a linear model is fitted on labels or on a teacher's soft targets")
    outputs = target.shape[1]
    coefficients, bias = np.zeros((outputs, features.shape[1])), np.full(outputs, ABSENT)
    there = np.unique(label)
    bias[there] = 0.0
    if len(there) > 1:
        coefficients[there], bias[there] = _solve(features[row], label, share, inverse_l2, iterations)
    return coefficients.astype(np.float32), bias.astype(np.float32)


def _solve(features: Any, label: Array, share: Array, inverse_l2: float, iterations: int) -> tuple[Array, Array]:
    """Coefficients (classes there, D) and biases (classes there,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solved = LogisticRegression(C=inverse_l2, max_iter=iterations).fit(features, label, sample_weight=share)
    if len(solved.classes_) > 2:
        return solved.coef_, solved.intercept_
    # Two classes come as one margin; halves of it keep the classes' logits alike.
    half = np.array([[-0.5], [0.5]])
    return half * solved.coef_, half[:, 0] * solved.intercept_
