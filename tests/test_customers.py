from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limbeck.customers import AGO, AMOUNTS, Layout, moments, visits
from limbeck.errors import UserError

LAYOUT = Layout("who", "day", "paid", dated=False, horizon=5)


def table(*rows: tuple[str, int, float | None]) -> pa.Table:
    who, day, paid = zip(*rows, strict=True)
    return pa.table({"who": who, "day": day, "paid": pa.array(paid, pa.float64())})


ORDERS = table(
    ("b", 7, 1.0), ("a", 3, 2.0), ("a", 12, 8.0), ("a", 3, 4.0), ("a", 9, 16.0), ("c", 11, 32.0), ("b", 10, 0.0)
)


def test_purchases_of_one_moment_are_one_and_order_does_not_matter() -> None:
    for order in (np.arange(7), np.random.default_rng(0).permutation(7)):
        found = visits(ORDERS.take(order), LAYOUT)
        assert found.names == ("a", "b", "c")
        assert list(zip(found.owner, found.time, found.amount, strict=True)) == [
            (0, 3, 6.0), (0, 9, 16.0), (0, 12, 8.0), (1, 7, 1.0), (1, 10, 0.0), (2, 11, 32.0),
        ]  # fmt: skip
        assert found.first.tolist() == [3, 7, 11]


def test_a_cut_parts_what_is_known_from_what_is_asked() -> None:
    found = visits(ORDERS, LAYOUT)
    known, who = found.until(9, LAYOUT)
    assert known.to_pylist() == [
        {"user": "a", AGO: [6.0, 0.0], AMOUNTS: [6.0, 16.0]},
        {"user": "b", AGO: [2.0], AMOUNTS: [1.0]},
    ]
    assert who.tolist() == [0, 1]
    assert found.after(9, LAYOUT).tolist() == [1, 1, 1]
    paid = Layout("who", "day", "paid", dated=False, horizon=2, target="dollars")
    assert found.after(9, paid).tolist() == [0, 0, 32]
    assert found.after(9, Layout("who", "day", "paid", dated=False, horizon=3, target="dollars")).tolist() == [8, 0, 32]


def test_dates_count_in_days() -> None:
    times = ["1970-01-02T23:59:59", "1970-01-11T00:00:00"]
    dated = pa.table({"day": pa.array(np.array(times, "datetime64[us]"))})
    assert moments(dated, "day", dated=True).tolist() == [1, 10]
    with pytest.raises(UserError, match="whole numbers were wanted"):
        moments(dated, "day", dated=False)
    with pytest.raises(UserError, match=r"dates .2024-01-31. were wanted"):
        moments(ORDERS, "day", dated=True)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (("", 1, 1.0), "without a customer"),
        (("a", 1, None), "is empty; mend or drop"),
        (("a", 1, -2.0), "returns are no purchases"),
        (("a", 1, float("inf")), "is beyond 1e"),
        (("a", 1, 1e300), "is beyond 1e"),
    ],
)
def test_odd_rows_are_refused_in_words(row: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        visits(pa.concat_tables([ORDERS, table(row)]), LAYOUT)


def test_dollars_need_amounts_and_targets_have_names() -> None:
    with pytest.raises(UserError, match="role 'amount'"):
        Layout("who", "day", "", dated=False, horizon=5, target="dollars")
    with pytest.raises(UserError, match="purchases or dollars was wanted"):
        Layout("who", "day", "", dated=False, horizon=5, target="euros")  # type: ignore[arg-type]
    bare = Layout("who", "day", "", dated=False, horizon=5)
    known, _ = visits(ORDERS, bare).until(9, bare)
    assert known.column_names == ["user", AGO]
