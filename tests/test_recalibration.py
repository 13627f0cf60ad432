import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from limbeck.errors import UserError
from limbeck.metrics.calibration import ece
from limbeck.metrics.click import chance_error, pcoc
from limbeck.recalibration import Calibration, Way, straight
from limbeck.types import Array

RNG = np.random.default_rng(0)
TRUE = RNG.normal(-1.0, 1.2, 4000)
LABEL = (RNG.random(4000) < expit(TRUE)).astype(np.int64)
SAID = 3.0 * TRUE + 1.5  # too sure, and promising too much


def bent(way: Way, said: Array = SAID, label: Array = LABEL) -> tuple[Calibration, Array]:
    made = Calibration(way, 1)
    made.fit(said[:, None].astype(np.float32), label)
    return made, made(torch.from_numpy(said[:, None])).numpy()[:, 0]


def test_fresh_it_changes_nothing() -> None:
    said = torch.randn(5, 1)
    for way in ("none", "temperature", "platt", "isotonic"):
        assert torch.equal(Calibration(way, 1)(said), said)  # type: ignore[arg-type]  # these are ways


def test_platts_line_is_that_of_an_unpunished_logistic_regression() -> None:
    peer = LogisticRegression(C=1e9).fit(SAID[:, None], LABEL)
    scale, shift = straight(SAID[:, None], LABEL, shifted=True)
    assert scale == pytest.approx(peer.coef_[0, 0], rel=1e-2)
    assert shift == pytest.approx(peer.intercept_[0], abs=1e-2)
    _, found = bent("platt")
    assert pcoc(expit(found), LABEL) == pytest.approx(1.0, abs=1e-3)


def test_a_temperature_keeps_the_order_of_classes_and_lowers_their_error() -> None:
    logits = RNG.normal(size=(3000, 4)) * 2
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = (chance.cumsum(1) < RNG.random((3000, 1))).sum(1).clip(max=3)
    made = Calibration("temperature", 4)
    made.fit(5.0 * logits, label)
    assert float(made.scale) == pytest.approx(0.2, rel=0.1)
    calm = torch.softmax(made(torch.from_numpy(5.0 * logits)), 1).numpy()
    sure = torch.softmax(torch.from_numpy(5.0 * logits), 1).numpy()
    assert ece(calm, label) < 0.03 < ece(sure, label)
    assert (calm.argmax(1) == logits.argmax(1)).all()


def test_an_isotonic_map_follows_scikit_learns_at_its_knots() -> None:
    made, found = bent("isotonic")
    sure = 1 / 4002
    peer = IsotonicRegression(y_min=sure, y_max=1 - sure, out_of_bounds="clip").fit(SAID, LABEL)
    knots = made.knots.numpy().astype(np.float64)
    at = made(torch.from_numpy(knots[:, None])).numpy()[:, 0]
    np.testing.assert_allclose(expit(at), peer.predict(knots), atol=5e-3)
    assert chance_error(expit(found), LABEL) < 0.02 < chance_error(expit(SAID), LABEL)


@given(st.integers(0, 999), st.integers(2, 60))
def test_no_two_rows_change_places_however_few_there_are(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    said, label = random.integers(-4, 5, count).astype(float), random.integers(0, 2, count)
    wide = np.linspace(-9, 9, 181)
    for way in ("temperature", "platt", "isotonic"):
        made = Calibration(way, 1)  # type: ignore[arg-type]  # these are ways
        made.fit(said[:, None], label)
        again = made.double()(torch.from_numpy(wide[:, None])).numpy()[:, 0]
        assert np.isfinite(again).all()
        assert (np.diff(again) > -1e-9).all()


@pytest.mark.parametrize("way", ["platt", "isotonic"])
def test_more_classes_than_two_take_a_temperature(way: Way) -> None:
    with pytest.raises(UserError, match="for two classes"):
        Calibration(way, 3)
