import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.features import SURE, before, features_of, history, past_rate, read_as, with_sides
from limbeck.task import Source
from limbeck.types import Rows

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=30)


@given(ROWS, st.integers(1, 4))
def test_the_past_is_the_same_persons_counted_rows_strictly_before(
    rows: list[tuple[int, int, bool, bool]], length: int
) -> None:
    who, time, counts, yes = (np.array(values) for values in zip(*rows, strict=True))
    items = pa.array([f"i{n}" for n in range(len(rows))])
    found = history(who, time, counts, items, length=length).to_pylist()
    rate, many = past_rate(who, time, counts, yes.astype(float))
    overall = yes[counts].mean() if counts.any() else 0.0
    for n in range(len(rows)):
        mine = [m for m in range(len(rows)) if counts[m] and who[m] == who[n] and time[m] < time[n]]
        mine.sort(key=lambda m: time[m])  # stable: ties by position
        assert found[n] == [f"i{m}" for m in mine][-length:]
        assert many[n] == len(mine)
        assert rate[n] == pytest.approx((yes[mine].sum() + SURE * overall) / (len(mine) + SURE))


def test_no_row_sees_itself_or_its_moment() -> None:
    who, time = np.zeros(3, np.int64), np.array([1.0, 1.0, 2.0])
    _, first, end = before(who, time, np.ones(3, bool))
    assert (end - first).tolist() == [0, 0, 2]


def rows(**roles: object) -> Rows:
    table = pa.table({"u": ["a", "b"], "i": ["x", "y"], "price": [1, 2], "after": [0.1, 0.2], "label": [0, 1]})
    return Rows(table, np.arange(2), "here", {"user": "u", "item": "i", "label": "label", **roles})  # type: ignore[dict-item]


def test_all_columns_without_a_role_are_features_with_users_and_items_first() -> None:
    assert features_of(rows(privileged=("after",))) == ("u", "i", "price")
    assert features_of(rows(features=("after",))) == ("u", "i", "after")


def test_a_privileged_column_is_no_feature() -> None:
    with pytest.raises(UserError, match="cannot be features and privileged"):
        features_of(rows(features=("after",), privileged=("after",)))


def test_side_tables_join_by_their_first_column_and_taken_names_stay() -> None:
    side = pa.table({"id": ["b", "a"], "age": [7, 8], "price": [0, 0]})
    table, joined = with_sides(Source(rows(), {"user": side}))
    assert table.column("age").to_pylist() == [8, 7]
    assert table.column("price").to_pylist() == [1, 2]
    assert joined == {"user": ["age"]}


def test_columns_that_are_left_out_are_not_read() -> None:
    read = read_as(rows(), {"after": "left_out"})
    assert read.roles["features"] == ("u", "i", "price")
    with pytest.raises(UserError, match="the columns that are read are"):
        read_as(rows(), {"label": "number"})
