import numpy as np
import pytest
from sklearn.metrics import root_mean_squared_error

from limbeck.metrics import worth
from limbeck.types import Array


def drawn(count: int = 500, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    truth = np.where(random.random(count) < 0.7, 0.0, random.lognormal(2.0, 1.0, count))
    return truth, truth * random.lognormal(0.0, 0.7, count) + random.gamma(1.0, 2.0, count)


def naive_gini(truth: Array, values: Array) -> float:
    """The area between a Lorenz curve and the diagonal over that of the best order, customer by customer."""

    def area(order: Array) -> float:
        gathered, total = 0.0, 0.0
        for place, i in enumerate(order.tolist(), 1):
            gathered += truth[i]
            total += gathered / truth.sum() - place / len(truth)
        return total

    return area(np.argsort(-values, kind="stable")) / area(np.argsort(-truth, kind="stable"))


def test_gini_is_the_area_of_lorenz_curves() -> None:
    truth, values = drawn()
    assert worth.gini(truth, values) == pytest.approx(naive_gini(truth, values), rel=1e-12)
    assert worth.gini(truth, truth) == pytest.approx(1.0)
    assert worth.gini(truth, -truth) == pytest.approx(-1.0)
    assert worth.gini(truth, np.ones(500)) == pytest.approx(0.0, abs=1e-12)


def test_tied_customers_count_as_the_mean_of_all_their_orders() -> None:
    truth, values = drawn(60)
    values = values.round(-1)
    random = np.random.default_rng(1)
    orders = [random.permutation(60) for _ in range(4000)]
    mean = np.mean([naive_gini(truth[order], values[order]) for order in orders])
    assert worth.gini(truth, values) == pytest.approx(mean, abs=3e-3)


@pytest.mark.parametrize("name", ["gini", "rmse", "bias"])
def test_a_resample_is_the_metric_of_the_rows_drawn(name: str) -> None:
    truth, values = drawn(80)
    rows = np.random.default_rng(2).integers(0, 80, 80)
    counts = np.bincount(rows, minlength=80).astype(float)
    found = getattr(worth, f"resampled_{name}")(truth, values)(counts)
    assert found == pytest.approx(getattr(worth, name)(truth[rows], values[rows]), rel=1e-9)


def test_errors_are_those_of_other_libraries_and_loops() -> None:
    truth, values = drawn()
    assert worth.rmse(truth, values) == pytest.approx(root_mean_squared_error(truth, values))
    assert worth.bias(truth, values) == pytest.approx(np.average(values) / np.average(truth) - 1)
    tenths = [np.argsort(values)[50 * k : 50 * k + 50] for k in range(10)]
    each = [abs(values[t].mean() - truth[t].mean()) / truth[t].mean() for t in tenths if truth[t].any()]
    assert worth.tenth_error(truth, values) == pytest.approx(np.mean(each))


def test_the_order_of_rows_changes_nothing_even_where_values_are_tied() -> None:
    truth, values = drawn(200)
    values, order = values.round(-1), np.random.default_rng(3).permutation(200)
    for metric in (worth.gini, worth.tenth_error, worth.rmse, worth.bias):
        assert metric(truth[order], values[order]) == pytest.approx(metric(truth, values), rel=1e-12)


def test_where_nobody_is_worth_anything_there_is_no_number() -> None:
    for metric in (worth.gini, worth.tenth_error, worth.bias):
        assert np.isnan(metric(np.zeros(4), np.arange(4.0)))
