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
from limbeck.logistic import logistic
from limbeck.token_reader import WeightedTerms
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


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
        size = module.state_dict()["table.weight"].shape[0]
        coefficients, bias = logistic(_terms(inputs, size), target, weight, inverse_l2=self.inverse_l2)
        state = {"table.weight": coefficients.T.copy(), "bias": bias}
        module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})


def _terms(inputs: Mapping[str, Array], size: int) -> sparse.csr_array:
    """The padded terms as a sparse matrix (N, size)."""
    ids, weights = inputs["terms"], inputs["weights"]
    there = ids >= RESERVED
    ends = np.concatenate([[0], np.cumsum(there.sum(1))])
    return sparse.csr_array((weights[there].astype(np.float64), ids[there], ends), shape=(len(ids), size))
