import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limbeck.customers import AGO, AMOUNTS, Layout
from limbeck.encoders.purchases import SPENT, TIMES, Purchases, Start
from limbeck.errors import UserError
from limbeck.types import Lists, Rows

LAYOUT = Layout("who", "day", "paid", dated=False, horizon=40)
START = Start(0.5, 0.0, 1.0)
CUSTOMERS: list[tuple[list[float], list[float]]] = [
    ([39.0, 30.0, 12.0], [5.0, 7.0, 9.0]),
    ([4.0], [3.0]),
    ([40.0, 39.0, 38.0, 8.0, 0.0], [1.0, 2.0, 3.0, 4.0, 50.0]),
    ([20.0], [0.0]),
]


def column(customers: Any = CUSTOMERS) -> dict[str, Any]:
    return {AGO: Lists.of([ago for ago, _ in customers]), AMOUNTS: Lists.of([paid for _, paid in customers])}


def rows() -> Rows:
    table = pa.table({
        "user": ["a", "b", "c", "d"], AGO: [ago for ago, _ in CUSTOMERS], AMOUNTS: [paid for _, paid in CUSTOMERS],
        "wanted": [0.0, 1.0, np.e**2, 0.0],
    })  # fmt: skip
    return Rows(table, np.arange(4), "here")


def test_models_of_buyers_get_their_four_numbers() -> None:
    found = Purchases(LAYOUT, "bought", START)(column())["bought"]
    np.testing.assert_allclose(found, [[2, 27, 39, 8.0], [0, 0, 4, 0], [4, 40, 40, 14.75], [0, 0, 20, 0]])
    assert found.dtype == np.float32


def test_features_are_what_their_names_say() -> None:
    found = dict(zip((*TIMES, *SPENT), Purchases(LAYOUT, "features", START)._features(column()).T, strict=True))
    for i, (ago, paid) in enumerate(CUSTOMERS):
        gaps = -np.diff(ago)
        mean = gaps.mean() if len(gaps) else ago[0]
        wanted = {
            "log frequency": np.log1p(len(gaps)), "log since last": np.log1p(ago[-1]), "log age": np.log1p(ago[0]),
            "log recency": np.log1p(ago[0] - ago[-1]), "log mean gap": np.log1p(mean),
            "log last gap": np.log1p(gaps[-1] if len(gaps) else ago[0]),
            "log gap deviation": np.log1p(gaps.std() if len(gaps) else 0.0),
            "log rate": np.log((len(gaps) + 0.5) / (ago[0] + 20)),
            "log since last over mean gap": np.log((ago[-1] + 1) / (mean + 1)),
            "log bought in the last quarter": np.log1p(sum(a <= 10 for a in ago)),
            "log bought in the last half": np.log1p(sum(a <= 20 for a in ago)), "bought once": float(len(ago) == 1),
            "log mean amount": np.log1p(np.mean(paid)), "log total amount": np.log1p(sum(paid)),
            "log last amount": np.log1p(paid[-1]), "log largest amount": np.log1p(max(paid)),
            "log first amount": np.log1p(paid[0]),
        }  # fmt: skip
        for name, value in wanted.items():
            assert found[name][i] == pytest.approx(value, abs=1e-6), name


def test_training_customers_set_the_scale_and_the_range() -> None:
    fitted = Purchases.fit(rows(), LAYOUT, "features")
    said = fitted(column())["features"]
    np.testing.assert_allclose(said.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(said.std(0), 1, atol=1e-5)
    far = fitted(column([([1e5, *range(3000, 0, -1)], [1e11] * 3001)]))["features"]
    assert np.isfinite(far).all()
    assert (far <= said.max(0) + 1e-5).all()
    assert (far >= said.min(0) - 1e-5).all()
    assert fitted.start == Start(3 / 6, 1.0, 1.0)


def test_odd_rows_have_an_answer() -> None:
    """No purchase at all, one that lies in the future, an unknown time or amount; any order."""
    fitted = Purchases.fit(rows(), LAYOUT, "features")
    said = fitted(column([([], []), ([-3.0], [1.0]), ([np.nan], [2.0]), ([5.0], [np.nan])]))["features"]
    assert np.isfinite(said).all()
    np.testing.assert_array_equal(said[0], said[1])
    np.testing.assert_array_equal(said[0], said[2])
    turned = [(ago[::-1], paid[::-1]) for ago, paid in CUSTOMERS]
    np.testing.assert_allclose(fitted(column(turned))["features"], fitted(column())["features"], atol=1e-6)
    with pytest.raises(UserError, match="differ in length"):
        fitted(column([([5.0, 3.0], [1.0])]))
    with pytest.raises(UserError, match="one value a row"):
        fitted({AGO: np.zeros(2), AMOUNTS: np.zeros(2)})
    with pytest.raises(UserError, match="lists of text"):
        fitted({AGO: Lists.of([["soon"]]), AMOUNTS: Lists.of([[1.0]])})


@pytest.mark.parametrize("form", ["bought", "features"])
def test_it_is_read_back_as_it_was_saved(form: Any, tmp_path: Path) -> None:
    fitted = Purchases.fit(rows(), LAYOUT, form)
    again = Purchases.load(tmp_path, json.loads(json.dumps(fitted.save(tmp_path))))
    assert again.fingerprint == fitted.fingerprint
    np.testing.assert_array_equal(again(column())[form], fitted(column())[form])
    bare = Layout("who", "day", "", dated=False, horizon=40)
    assert Purchases(bare, "features", START).names == TIMES
    assert Purchases(bare, "features", START).columns == ("user", AGO)


def test_transactions_become_questions_after_the_last_of_them() -> None:
    table = pa.table({"who": ["b", "a", "b"], "day": [3, 5, 9], "paid": [1.0, 2.0, 4.0]})
    fitted = Purchases.fit(rows(), LAYOUT, "bought")
    assert fitted.questions(table).to_pylist() == [
        {"user": "a", AGO: [4.0], AMOUNTS: [2.0]},
        {"user": "b", AGO: [6.0, 0.0], AMOUNTS: [1.0, 4.0]},
    ]
    assert [(c.name, c.type) for c in fitted.raw] == [("who", "text"), ("day", "integer"), ("paid", "number")]
