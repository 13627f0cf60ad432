"""TF-IDF and logistic regression: the trivial baseline that text models lose to more often than they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import nn

from limbeck.encoder import RESERVED, Encoder
from limbeck.encoders.tfidf import Analyzer, Tfidf
from limbeck.errors import UserError
from limbeck.token_reader import WeightedTerms
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

ABSENT = -20.0
"""Logit of a class that no fitted row has, where the others' are around 0."""


@dataclass(frozen=True)
class TfidfLinear:
    """Logistic regression on TF-IDF.

    Args:
        analyzer: terms of `words` or `characters`; none looks at the texts: characters for scripts
            without spaces.
        ngrams: the shortest and the longest term.
        minimum: training texts a term must occur in.
        features: terms at most.
        inverse_l2: scikit-learn's C; less is a stronger penalty.
    """

    analyzer: Analyzer | None = None
    ngrams: tuple[int, int] = (1, 2)
    minimum: int = 2
    features: int = 50_000
    inverse_l2: float = 3.0

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def __post_init__(self) -> None:
        if not self.inverse_l2 > 0:
            raise UserError(f"inverse_l2 is {self.inverse_l2}; it must be above 0")

    def encoder(self, problem: Problem) -> Encoder:
        """Terms and frequencies of the training texts."""
        column = problem.train.role("text")
        fitted = Tfidf.fit(
            column,
            problem.train.column(column),
            analyzer=self.analyzer,
            ngrams=self.ngrams,
            minimum=self.minimum,
            features=self.features,
        )
        return Encoder([fitted])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Weights of zero."""
        return WeightedTerms(len(encoder.encodings[0]), outputs)  # type: ignore[arg-type]  # a Tfidf has a length

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Fit with scikit-learn; a soft target is a row of every class, weighted by its probability."""
        size, outputs = module.state_dict()["table.weight"].shape
        soft = sparse.coo_array(target)
        row, label, share = soft.coords[0], soft.coords[1], soft.data.astype(np.float64)
        share = share if weight is None else share * weight[row]
        row, label, share = row[share > 0], label[share > 0], share[share > 0]
        if not len(row):
            raise UserError("tfidf_linear: no row has a target; it is fitted on labels or on a teacher's soft targets")
        coefficients, bias = np.zeros((outputs, size)), np.full(outputs, ABSENT)
        there = np.unique(label)
        bias[there] = 0.0
        if len(there) > 1:
            coefficients[there], bias[there] = self._solve(_terms(inputs, size)[row], label, share)
        state = {"table.weight": coefficients.T, "bias": bias}
        module.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in state.items()})

    def _solve(self, terms: sparse.csr_array, label: Array, share: Array) -> tuple[Array, Array]:
        """Coefficients (classes there, terms) and biases (classes there,)."""
        from sklearn.linear_model import LogisticRegression

        solved = LogisticRegression(C=self.inverse_l2, max_iter=2000).fit(terms, label, sample_weight=share)
        if len(solved.classes_) > 2:
            return solved.coef_, solved.intercept_
        # Two classes come as one margin; halves of it keep the classes' logits alike.
        half = np.array([[-0.5], [0.5]])
        return half * solved.coef_, half[:, 0] * solved.intercept_


def _terms(inputs: Mapping[str, Array], size: int) -> sparse.csr_array:
    """The padded terms as a sparse matrix (N, size)."""
    ids, weights = inputs["terms"], inputs["weights"]
    there = ids >= RESERVED
    ends = np.concatenate([[0], np.cumsum(there.sum(1))])
    return sparse.csr_array((weights[there].astype(np.float64), ids[there], ends), shape=(len(ids), size))
