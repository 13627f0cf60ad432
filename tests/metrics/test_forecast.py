import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from limbeck.metrics.forecast import QUOTIENTS, naive_errors, quotient, sums

LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    truth = rng.gamma(2.0, 5.0, size=(41, 7))
    truth[rng.random(truth.shape) < 0.2] = np.nan
    truth[4] = np.nan
    quantiles = np.sort(rng.gamma(2.0, 5.0, size=(41, 7, 3)), 2)
    naive = rng.gamma(2.0, 1.0, size=41)
    naive[[7, 9]] = np.nan, 0.0
    return truth, quantiles, naive


def judged(case):
    truth, quantiles, naive = case
    found = sums(truth, quantiles[:, :, 1], quantiles, levels=LEVELS, naive_error=naive)
    return {name: quotient(found[top], found[bottom]) for name, (top, bottom) in QUOTIENTS.items()}, found


def test_errors_are_those_of_scikit_learn(case):
    truth, quantiles, _ = case
    there = np.isfinite(truth)
    metrics, found = judged(case)
    whole = np.abs(truth[there]).sum()
    absolute = mean_absolute_error(truth[there], quantiles[:, :, 1][there])
    assert metrics["wape"] == pytest.approx(absolute * there.sum() / whole)
    for row in (0, 11):
        assert found["absolute_error"][row] == pytest.approx(
            mean_absolute_error(truth[row][there[row]], quantiles[row, :, 1][there[row]])
        )
    assert np.isnan(found["absolute_error"][4])
    pinball = [mean_pinball_loss(truth[there], quantiles[:, :, q][there], alpha=at) for q, at in enumerate(LEVELS)]
    assert metrics["weighted_quantile_loss"] == pytest.approx(2 * np.mean(pinball) * there.sum() / whole)


def test_the_others_are_those_of_a_naive_loop(case):
    truth, quantiles, naive = case
    errors, inside, scaled, whole = [], [], [], 0.0
    for i in range(truth.shape[0]):
        for h in range(truth.shape[1]):
            if np.isnan(truth[i, h]):
                continue
            errors.append(quantiles[i, h, 1] - truth[i, h])
            whole += abs(truth[i, h])
            inside.append(quantiles[i, h, 0] <= truth[i, h] <= quantiles[i, h, 2])
            if np.isfinite(naive[i]) and naive[i] > 0:
                scaled.append(abs(errors[-1]) / naive[i])
    metrics, _ = judged(case)
    assert metrics["bias"] == pytest.approx(sum(errors) / whole)
    assert metrics["coverage"] == pytest.approx(np.mean(inside))
    assert metrics["mase"] == pytest.approx(np.mean(scaled))


@pytest.mark.parametrize("season", [1, 3])
def test_the_naive_error_of_training_is_that_of_a_naive_loop(season):
    rng = np.random.default_rng(1)
    demand = rng.normal(size=(5, 12))
    demand[rng.random(demand.shape) < 0.2] = np.nan
    training = np.arange(12) < 8
    found = naive_errors(demand, np.broadcast_to(training, demand.shape), season=season)
    for s in range(5):
        gaps = [abs(demand[s, t] - demand[s, t - season]) for t in range(season, 8)]
        assert found[s] == pytest.approx(np.nanmean(gaps))


def test_a_series_too_short_for_a_season_is_measured_from_day_to_day():
    found = naive_errors(np.array([[1.0, 4.0, np.nan], [np.nan, 2.0, np.nan]]), np.ones((2, 3), bool), season=7)
    np.testing.assert_array_equal(found, [3.0, np.nan])


def test_all_zeros_are_rewarded_on_an_intermittent_series_by_mase_but_not_by_bias():
    truth = np.array([[0.0, 0, 0, 0, 0, 0, 0, 5]])
    zeros, mean = np.zeros((1, 8)), np.full((1, 8), 5 / 8)
    told = {}
    for name, values in (("zeros", zeros), ("mean", mean)):
        found = sums(truth, values, np.repeat(values[:, :, None], 3, 2), levels=LEVELS, naive_error=np.array([1.0]))
        told[name] = {m: quotient(found[a], found[b]) for m, (a, b) in QUOTIENTS.items()}
    assert told["zeros"]["mase"] < told["mean"]["mase"]
    assert told["zeros"]["bias"] == -1.0
    assert told["mean"]["bias"] == pytest.approx(0.0)


def test_a_quotient_over_nothing_is_no_number():
    assert np.isnan(quotient(np.ones(2), np.zeros(2)))
