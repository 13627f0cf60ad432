import numpy as np
import pyarrow as pa
import pytest

from limbeck.encoder import Encoder
from limbeck.encoders.windows import LIMIT, Windows
from limbeck.errors import UserError
from limbeck.series import Frequency, Layout
from limbeck.types import Batch, Key, Lists, Rows

LENGTH, HORIZON = 5, 2
LAYOUT = Layout(
    series="unique_id", time="ds", target="y", known=("price", "promo"), static=("shop", "brand"), dated=True,
    frequency=Frequency("microsecond", 86_400_000_000, 1_704_067_200_000_000), season=1, length=LENGTH, horizon=HORIZON,
)  # fmt: skip


def rows(count=40):
    rng = np.random.default_rng(0)
    table = pa.table({
        "series": [f"s{i}" for i in range(count)], "dates": [["2024-01-06", "2024-01-07"]] * count,
        "past": rng.normal(50, 9, (count, LENGTH)).tolist(),
        "known": rng.normal([3, -1], [2, 5], (count, LENGTH + HORIZON, 2)).reshape(count, -1).tolist(),
        "static": [[f"shop{i % 3}", f"brand{i % 2}" if i else ""] for i in range(count)],
    })  # fmt: skip
    return Rows(table, np.arange(count), "here")


def batch(**changes):
    some = dict(rows().slice(0, 3).batch())
    return {**some, **changes}


def test_past_demand_is_scaled_by_its_own_window_alone():
    encoding = Windows.fit(rows(), LAYOUT)
    past = np.array(rows().column("past").values).reshape(-1, LENGTH)
    said = encoding(dict(rows().batch()))
    np.testing.assert_allclose(said["level"], past.mean(1), rtol=1e-6)
    np.testing.assert_allclose(said["scale"], np.maximum(past.std(1), 0.01 * past.mean(1)), rtol=1e-6)
    np.testing.assert_allclose(said["past"] * said["scale"][:, None] + said["level"][:, None], past, rtol=1e-5)
    other = encoding(batch(past=Lists.of([*past[:2].tolist(), [9e5] * LENGTH])))
    np.testing.assert_array_equal(other["past"][:2], said["past"][:2])


def test_gaps_and_short_histories_are_masked_and_a_constant_one_has_a_scale():
    nan = float("nan")
    said = Windows.fit(rows(), LAYOUT)(batch(past=Lists.of([[nan, 4.0, nan, 8.0, 6.0], [7.0, 7.0], [0.0, 0.0, 0.0]])))
    np.testing.assert_array_equal(said["observed"], [[0, 1, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]])
    np.testing.assert_allclose(said["level"], [6, 7, 0])
    np.testing.assert_allclose(said["scale"], [np.std([4, 8, 6]), 0.07, 1], rtol=1e-6)
    np.testing.assert_array_equal(said["past"][0, [0, 2]], [0, 0])
    nothing = Windows.fit(rows(), LAYOUT)(batch(past=Lists.of([[], [], [nan]])))
    assert not nothing["past"].any()
    assert not nothing["observed"].any()
    np.testing.assert_array_equal(nothing["scale"], 1)


def test_the_latest_of_a_longer_history_are_read():
    encoding = Windows.fit(rows(), LAYOUT)
    long = encoding(batch(past=Lists.of([list(range(12)), [], [1.0]])))
    short = encoding(batch(past=Lists.of([list(range(7, 12)), [], [1.0]])))
    np.testing.assert_array_equal(long["past"], short["past"])


@pytest.mark.parametrize(("scaling", "level", "scale"), [("center", 6.0, 1.0), ("identity", 0.0, 1.0)])
def test_other_scalings_do_what_they_say(scaling, level, scale):
    said = Windows.fit(rows(), LAYOUT, scaling=scaling)(batch(past=Lists.of([[4.0, 8.0], [], []])))
    assert (said["level"][0], said["scale"][0]) == (level, scale)
    np.testing.assert_array_equal(said["past"][0], [0, 0, 0, 4 - level, 8 - level])


def test_known_numbers_are_standardised_by_training_rows_and_drawn_to_a_limit():
    encoding = Windows.fit(rows(), LAYOUT, back=2)
    held = np.array(rows().column("known").values).reshape(40, LENGTH + HORIZON, 2)
    mean, deviation = held.reshape(-1, 2).mean(0), held.reshape(-1, 2).std(0)
    wanted = (held - mean) / deviation
    said = encoding(dict(rows().batch()))["known"]
    assert said.shape == (40, 1 + 2 + HORIZON, 2)
    np.testing.assert_allclose(said[:, 0], wanted[:, :LENGTH].mean(1), atol=1e-5)
    np.testing.assert_allclose(said[:, 1:], wanted[:, LENGTH - 2 :], atol=1e-5)
    odd = [[1e300, -np.inf, *[float("nan")] * 12], [], [0.0] * 14]
    strange = encoding(batch(known=Lists.of(odd)))["known"]
    assert np.isfinite(strange).all()
    assert np.abs(strange).max() <= LIMIT
    assert not strange[1].any()


def test_categories_share_a_table_and_new_or_empty_ones_have_places_of_their_own():
    encoding = Windows.fit(rows(), LAYOUT)
    assert encoding.categories == (("shop0", "shop1", "shop2"), ("brand0", "brand1"))
    assert encoding.size == 2 + 3 + 2
    told = Lists.of([["shop2", "brand0"], ["new", ""], []])
    np.testing.assert_array_equal(encoding(batch(static=told))["static"], [[4, 5], [1, 0], [0, 0]])


def test_the_flat_form_says_the_same_numbers_by_name():
    encoding = Windows.fit(rows(), LAYOUT, back=1)
    flat = Windows.fit(rows(), LAYOUT, back=1, form="flat")
    some = dict(rows().batch())
    windows, features = encoding(some), flat(some)["features"]
    assert features.shape == (40, len(flat.names))
    assert features.dtype == np.float32
    named = dict(zip(flat.names, features.T, strict=True))
    np.testing.assert_array_equal(named["y 1 back"], windows["past"][:, -1])
    np.testing.assert_array_equal(named["level"], windows["level"])
    prices = np.array(rows().column("known").values).reshape(40, -1, 2)[:, -1, 0]
    np.testing.assert_allclose(named["price step 2"], prices, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(named["shop=shop1"], [float(i % 3 == 1) for i in range(40)])


def test_what_is_saved_and_read_back_answers_alike(tmp_path):
    encoder = Encoder([Windows.fit(rows(), LAYOUT, scaling="center", back=3)])
    encoder.save(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert loaded.fingerprint == encoder.fingerprint
    some = Batch(batch(), Key("here", np.arange(3), np.zeros(3, np.int64)))
    for name, value in encoder(some).items():
        np.testing.assert_array_equal(loaded(some)[name], value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"past": Lists.of([[1e300], [1.0], [1.0]])}, "beyond 1e\\+30"),
        ({"known": Lists.of([[1.0], [], []])}, "1 numbers in a row; 14 were wanted"),
        ({"static": Lists.of([["shop1"], [], []])}, "1 values in a row; 2 were wanted"),
    ],
)
def test_rows_of_another_form_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Windows.fit(rows(), LAYOUT)(batch(**changes))


def history(**changes):
    dates = np.datetime64("2024-03-01") + np.arange(8)
    said = {
        "unique_id": ["b"] * 8, "ds": pa.array(dates.astype("datetime64[us]")),
        "y": pa.array([1.0, 2, 3, 4, 5, 6, None, None]), "price": np.arange(8.0), "promo": np.zeros(8),
        "shop": ["shop1"] * 8, "brand": ["brand1"] * 8,
    }  # fmt: skip
    return pa.table({**said, **changes}).take([5, 0, 7, 1, 2, 3, 4, 6])


def test_a_history_becomes_a_question_about_the_dates_behind_it():
    encoding = Windows.fit(rows(), LAYOUT)
    (asked,) = encoding.questions(history()).to_pylist()
    assert asked["dates"] == ["2024-03-07", "2024-03-08"]
    assert asked["past"] == [2, 3, 4, 5, 6]
    assert asked["known"][::2] == [1, 2, 3, 4, 5, 6, 7]
    assert asked["static"] == ["shop1", "brand1"]
    assert {column.name for column in encoding.raw} == set(history().column_names)


def test_a_history_that_lacks_what_is_needed_is_refused():
    encoding = Windows.fit(rows(), LAYOUT)
    with pytest.raises(UserError, match=r"'b' on 2024-03-08; add one, its y empty, with price, promo"):
        encoding.questions(history().filter(np.array([True, True, False, True, True, True, True, True])))
    with pytest.raises(UserError, match="no demand to forecast from, such as 'b'"):
        encoding.questions(history(y=pa.nulls(8, pa.float64())))
