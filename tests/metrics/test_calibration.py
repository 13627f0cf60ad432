import json

import numpy as np
import pytest

from limbeck.metrics import calibration
from limbeck.types import Array


def rows(n: int = 301, classes: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    raw = rng.exponential(size=(n, classes))
    return raw / raw.sum(1, keepdims=True), rng.integers(0, classes, n)


def naive(probabilities: Array, label: Array, bins: int) -> float:
    total = 0.0
    for i in range(bins):
        inside = [r for r in range(len(label)) if i == min(int(probabilities[r].max() * bins), bins - 1)]
        if inside:
            sure = np.mean([probabilities[r].max() for r in inside])
            right = np.mean([probabilities[r].argmax() == label[r] for r in inside])
            total += abs(sure - right) * len(inside) / len(label)
    return total


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_error_equals_a_naive_count(bins: int) -> None:
    probabilities, label = rows()
    assert calibration.ece(probabilities, label, bins=bins) == pytest.approx(naive(probabilities, label, bins))


def test_bins_hold_every_row_once_and_add_up_to_the_error() -> None:
    probabilities, label = rows()
    found = calibration.reliability(probabilities, label)
    assert sum(b["n"] for b in found) == len(label)
    assert [b["low"] for b in found[1:]] == [b["high"] for b in found[:-1]]
    gaps = [b["n"] * abs(b["accuracy"] - b["confidence"]) for b in found if b["n"]]  # type: ignore[operator]
    assert sum(gaps) / len(label) == pytest.approx(calibration.ece(probabilities, label))
    for b in found:
        assert b["confidence"] is None or b["low"] <= b["confidence"] <= b["high"]
    json.dumps(found, allow_nan=False)


def test_a_predictor_as_right_as_it_says_has_no_error() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4)
    assert calibration.ece(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0.0)


def test_certainty_falls_in_the_last_bin() -> None:
    found = calibration.reliability(np.array([[0.0, 1.0]]), np.array([1]))
    assert found[-1]["n"] == 1


def test_no_rows_have_no_error() -> None:
    assert np.isnan(calibration.ece(np.zeros((0, 2)), np.zeros(0, np.int64)))
