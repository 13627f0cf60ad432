import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from limbeck.errors import UserError
from limbeck.series import Frequency, Layout, grid_of, phase


def micros(dates):
    return pd.DatetimeIndex(dates).to_numpy().astype("datetime64[us]").astype(np.int64)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("D", "day"), ("W-MON", "week"), ("MS", "month"), ("ME", "month"), ("QS", "quarter"), ("h", "hour")],
)
def test_a_frequency_is_seen_and_its_dates_are_those_of_pandas(alias, name):
    dates = pd.date_range("2023-01-31" if alias == "ME" else "2023-01-02", periods=14, freq=alias)
    time = micros(dates)
    frequency = Frequency.of(time[:9], np.zeros(9, np.int64), dated=True, said=None)
    assert frequency.name == name
    periods = frequency.periods(time)
    np.testing.assert_array_equal(np.diff(periods), 1)
    wanted = [str(d.date()) if (d == d.normalize()) else d.isoformat() for d in dates]
    found = frequency.dates(periods)
    assert [pd.Timestamp(one) for one in found] == [pd.Timestamp(one) for one in wanted]


def test_most_gaps_decide_where_dates_are_missing():
    dates = pd.date_range("2024-01-01", periods=40, freq="D").delete([3, 4, 5, 20])
    time = micros(dates)
    frequency = Frequency.of(time, np.zeros(len(time), np.int64), dated=True, said=None)
    assert frequency.name == "day"
    assert frequency.periods(time)[-1] == 39


def test_a_date_between_two_periods_is_named():
    time = micros(["2024-01-01", "2024-01-08", "2024-01-15", "2024-01-18"])
    frequency = Frequency.of(time, np.zeros(4, np.int64), dated=True, said="week")
    with pytest.raises(UserError, match="2024-01-18"):
        frequency.periods(time)


def test_numbers_of_periods_do_not_hang_on_the_first_date():
    time = micros(pd.date_range("2024-01-01", periods=9, freq="MS"))
    whole = Frequency.of(time, np.zeros(9, np.int64), dated=True, said=None)
    later = Frequency.of(time[4:], np.zeros(5, np.int64), dated=True, said=None)
    np.testing.assert_array_equal(whole.numbers(whole.periods(time))[4:], later.numbers(later.periods(time[4:])))


@pytest.mark.parametrize(("said", "dated"), [("fortnight", True), (7, True), ("week", False), (0, False)])
def test_a_frequency_that_does_not_fit_is_refused(said, dated):
    with pytest.raises(UserError, match="frequency"):
        Frequency.of(np.arange(5), np.zeros(5, np.int64), dated=dated, said=said)


def layout(**changes):
    said = {
        "series": "unique_id", "time": "ds", "target": "y", "known": (), "static": (), "dated": False,
        "frequency": Frequency("number", 1, 0), "season": 1, "length": 4, "horizon": 2,
    }  # fmt: skip
    return Layout(**{**said, **changes})


def long(**columns):
    said = {"unique_id": ["a", "b", "a", "a", "b"], "ds": [3, 1, 0, 1, 2], "y": [5.0, 9.0, 1.0, 2.0, None]}
    return pa.table({**said, **columns})


def test_rows_in_any_order_lie_on_one_grid():
    grid = grid_of(long(), layout())
    np.testing.assert_array_equal(grid.demand, [[1, 2, np.nan, 5], [np.nan, 9, np.nan, np.nan]])
    np.testing.assert_array_equal(grid.ends, [[0, 1], [3, 1]])
    filled = grid_of(long(), layout(missing="zero"))
    np.testing.assert_array_equal(filled.demand, [[1, 2, 0, 5], [np.nan, 9, np.nan, np.nan]])


def test_windows_are_what_a_naive_loop_cuts():
    rng = np.random.default_rng(0)
    count, price = 11, rng.normal(size=(2, 11)).astype(np.float32)
    demand = rng.normal(size=(2, count))
    demand[0, 3] = np.nan
    table = pa.table({
        "unique_id": np.repeat(["a", "b"], count), "ds": np.tile(np.arange(count), 2), "y": demand.ravel(),
        "price": price.ravel(), "kind": np.repeat(["x", ""], count),
    })  # fmt: skip
    grid = grid_of(table, layout(known=("price",), static=("kind",), season=3, negative="allow"))
    series, origin = np.array([0, 1, 0]), np.array([1, 5, 10])
    cut = grid.windows(series, origin).to_pylist()
    for row, (s, o) in zip(cut, zip(series, origin, strict=True), strict=True):
        places = list(range(o - 3, o + 3))
        past = [demand[s, p] if p >= 0 else np.nan for p in places[:4]]
        np.testing.assert_array_equal(row["past"], past)
        known = np.array(row["known"]).reshape(6, 3)
        np.testing.assert_array_equal(known[:, 0], [price[s, p] if 0 <= p < count else np.nan for p in places])
        np.testing.assert_allclose(known[:, 1], np.sin(2 * np.pi * np.array(places) / 3), atol=1e-6)
        assert row["dates"] == [str(o + 1), str(o + 2)]
        assert row["static"] == [["x"], [""]][s]


def test_a_season_has_one_phase_everywhere():
    np.testing.assert_allclose(phase(np.array([-7, 0, 7, 14]), 7), [[0, 1]] * 4, atol=1e-12)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (long().set_column(1, "ds", pa.array([3, 1, 0, 3, 2])), "already, the first 3 of series 'a'"),
        (long().set_column(2, "y", pa.array([5.0, 9.0, -1.0, 2.0, None])), "negative.*-1.*'a', ds 0"),
        (long().set_column(2, "y", pa.array([5.0, 1e300, 1.0, 2.0, None])), "beyond 1e\\+30.*'b'"),
        (long().set_column(2, "y", pa.array([5.0, np.inf, 1.0, 2.0, None])), "beyond 1e\\+30"),
        (long().set_column(2, "y", pa.array(["5", "9", "1", "2", "3"])), "holds string values; numbers"),
        (long().set_column(1, "ds", pa.array([3, 1, None, 0, 2])), "1 row without a date"),
        (long().set_column(1, "ds", pa.array(["x", "y", "z", "v", "w"])), "dates .* or whole numbers"),
        (long().set_column(1, "ds", pa.array([0.5, 1.0, 2.0, 3.0, 4.0])), "fraction"),
        (long().set_column(0, "unique_id", pa.array(["a", None, "a", "a", "b"])), "without a series"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_are_named(table, words):
    with pytest.raises(UserError, match=words):
        grid_of(table, layout())


def test_a_grid_too_large_to_hold_is_refused():
    table = pa.table({"unique_id": ["a", "b"], "ds": [0, 10**9], "y": [1.0, 2.0]})
    with pytest.raises(UserError, match="frequency to a longer period"):
        grid_of(table, layout())
