import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peer

from limbeck.metrics import classification
from limbeck.types import Array


def cases(classes: int, n: int = 41, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    raw = rng.integers(1, 5, (n, classes)).astype(float)  # few values, so that many tie
    return raw / raw.sum(1, keepdims=True), rng.integers(0, classes, n)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_equal_to_scikit_learn(classes: int) -> None:
    probabilities, label = cases(classes)
    said = probabilities.argmax(1)
    area = (
        peer.roc_auc_score(label, probabilities[:, 1])
        if classes == 2
        else peer.roc_auc_score(label, probabilities, multi_class="ovr")
    )
    assert classification.auc(probabilities, label) == pytest.approx(area)
    assert classification.accuracy(probabilities, label) == pytest.approx(peer.accuracy_score(label, said))
    assert classification.macro_accuracy(probabilities, label) == pytest.approx(
        peer.balanced_accuracy_score(label, said)
    )
    assert classification.macro_f1(probabilities, label) == pytest.approx(peer.f1_score(label, said, average="macro"))
    assert classification.log_loss(probabilities, label) == pytest.approx(peer.log_loss(label, probabilities))


@pytest.mark.parametrize("coverage", [0.25, 0.8, 1.0])
def test_at_coverage_it_is_the_accuracy_of_the_surest_rows(coverage: float) -> None:
    random = np.random.default_rng(3)
    probabilities, label = random.dirichlet(np.ones(4), 40), random.integers(0, 4, 40)
    surest = np.argsort(probabilities.max(1))[::-1][: int(coverage * 40)]
    wanted = peer.accuracy_score(label[surest], probabilities.argmax(1)[surest])
    assert classification.accuracy_at_coverage(probabilities, label, coverage) == pytest.approx(wanted)


def test_rows_equally_sure_count_alike_in_whatever_order() -> None:
    probabilities = np.array([[0.9, 0.1]] * 2 + [[0.6, 0.4]] * 8)
    label = np.array([0, 0] + [0] * 4 + [1] * 4)
    for order in (np.arange(10), np.arange(10)[::-1]):
        found = classification.accuracy_at_coverage(probabilities[order], label[order], 0.5)
        assert found == pytest.approx((2 + 3 * 0.5) / 5)


def test_a_class_of_few_rows_counts_as_much_as_one_of_many() -> None:
    probabilities, label = np.eye(3)[[0] * 10], np.array([0] * 9 + [1])
    assert classification.accuracy(probabilities, label) == 0.9
    assert classification.macro_accuracy(probabilities, label) == 0.5


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=20))
def test_area_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    score = np.array([s for s, _ in rows], float)
    positive = np.array([p for _, p in rows])
    pairs = [(s > t) + 0.5 * (s == t) for s, p in rows for t, q in rows if p and not q]
    if pairs:
        assert classification.area_under_curve(score, positive) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(classification.area_under_curve(score, positive))


def test_swapping_two_classes_changes_no_area() -> None:
    probabilities, label = cases(2)
    assert classification.auc(probabilities[:, ::-1], 1 - label) == pytest.approx(
        classification.auc(probabilities, label)
    )


def test_a_constant_answer_is_a_blind_guess() -> None:
    probabilities = np.full((6, 3), 1 / 3)
    label = np.array([0, 1, 2, 0, 1, 0])
    assert classification.auc(probabilities, label) == 0.5
    assert classification.log_loss(probabilities, label) == pytest.approx(np.log(3))


def test_classes_that_no_row_has_are_left_out_of_the_area() -> None:
    probabilities, label = cases(3)
    probabilities, label = probabilities[label < 2], label[label < 2]
    parts = [classification.area_under_curve(probabilities[:, c], label == c) for c in (0, 1)]
    assert classification.auc(probabilities, label) == pytest.approx(np.mean(parts))


def test_no_rows_have_no_value() -> None:
    nothing, label = np.zeros((0, 2)), np.zeros(0, np.int64)
    for metric in ("accuracy", "accuracy_at_coverage", "macro_accuracy", "macro_f1", "auc", "log_loss"):
        assert np.isnan(getattr(classification, metric)(nothing, label))


def test_a_certain_mistake_costs_a_finite_loss() -> None:
    assert classification.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-15))


@pytest.mark.parametrize("name", ["auc", "accuracy", "log_loss", "macro_accuracy", "accuracy_at_coverage"])
@pytest.mark.parametrize("classes", [2, 5])
def test_drawn_again_it_is_the_metric_of_the_rows_drawn(name: str, classes: int) -> None:
    random = np.random.default_rng(classes)
    probabilities = np.round(random.dirichlet(np.ones(classes), 60), 1)  # many ties
    label = random.integers(0, classes, 60)
    quick = getattr(classification, f"resampled_{name}")(probabilities, label)
    for _ in range(20):
        rows = random.integers(0, 60, 60)
        wanted = getattr(classification, name)(probabilities[rows], label[rows])
        assert quick(np.bincount(rows, minlength=60)) == pytest.approx(wanted, abs=1e-12)
