import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.models.tfidf_linear import TfidfLinear
from limbeck.task import Problem
from limbeck.types import Array, Axis, Rows

WORDS = ["good", "bad", "tea", "coffee", "very", "not", "service", "fine"]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 9))) for _ in range(60)]


def fitted(target: Array | sparse.csr_matrix, weight: Array | None = None) -> Array:
    """Logits of the training texts."""
    rows = Rows(pa.table({"text": TEXTS}), np.arange(len(TEXTS)), "here", {"text": "text"})
    family = TfidfLinear(minimum=1, inverse_l2=2.0)
    encoder: Encoder = family.encoder(Problem(rows, rows, rows, Axis("label", ("a", "b")), ("text",)))
    module = family.module(encoder, target.shape[1])
    inputs = encoder.rows(rows)
    family.fit(module, inputs, target, weight)
    with torch.no_grad():
        logits: Array = module(**{k: torch.from_numpy(v) for k, v in inputs.items()})["logits"].numpy()
    return logits


def peer(label: Array, weight: Array | None = None) -> Array:
    """Log probabilities by scikit-learn alone."""
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(TEXTS)
    solved = LogisticRegression(C=2.0, max_iter=2000).fit(terms, label, sample_weight=weight)
    found: Array = solved.predict_log_proba(terms)
    return found


def log_softmax(logits: Array) -> Array:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 3])
def test_equal_to_scikit_learn(classes: int) -> None:
    label = np.arange(len(TEXTS)) % classes
    weight = np.random.default_rng(1).random(len(TEXTS)) + 0.5
    np.testing.assert_allclose(log_softmax(fitted(np.eye(classes)[label])), peer(label), atol=1e-3)
    sparse_target = sparse.csr_matrix(np.eye(classes)[label])
    np.testing.assert_allclose(log_softmax(fitted(sparse_target, weight)), peer(label, weight), atol=1e-3)


def test_a_soft_target_is_a_row_of_every_class() -> None:
    soft = np.random.default_rng(2).dirichlet(np.ones(2), len(TEXTS))
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(TEXTS)
    twice, label = sparse.vstack([terms, terms]), np.repeat([0, 1], len(TEXTS))
    solved = LogisticRegression(C=2.0, max_iter=2000).fit(twice, label, sample_weight=soft.T.ravel())
    np.testing.assert_allclose(log_softmax(fitted(soft)), solved.predict_log_proba(terms), atol=1e-3)


def test_soft_targets_that_are_certain_are_labels() -> None:
    label = np.arange(len(TEXTS)) % 2
    certain = np.eye(2)[label]
    np.testing.assert_allclose(fitted(certain), fitted(sparse.csr_matrix(certain)), atol=1e-6)


def test_rows_without_a_target_do_not_count() -> None:
    label = np.arange(len(TEXTS)) % 2
    target = np.eye(2)[label]
    target[40:] = 0
    weight = (np.arange(len(TEXTS)) < 40).astype(float)
    np.testing.assert_allclose(fitted(target), fitted(np.eye(2)[label], weight), atol=1e-5)


def test_a_class_that_no_row_has_is_all_but_ruled_out() -> None:
    label = np.arange(len(TEXTS)) % 2
    logits = fitted(np.eye(3)[label])
    np.testing.assert_allclose(log_softmax(logits)[:, :2], peer(label), atol=1e-3)
    assert (logits[:, 2] < logits[:, :2].min(1) - 10).all()
    one = fitted(np.eye(3)[np.zeros(len(TEXTS), int)])
    assert (one.argmax(1) == 0).all()


def test_without_any_target_it_says_so() -> None:
    with pytest.raises(UserError, match="no row has a target"):
        fitted(np.zeros((len(TEXTS), 2)))
    with pytest.raises(UserError, match="inverse_l2 is 0"):
        TfidfLinear(inverse_l2=0.0)
