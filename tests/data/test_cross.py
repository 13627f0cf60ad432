import numpy as np
import pyarrow as pa
import pytest

from limbeck.data.cross import Cross
from limbeck.errors import UserError
from limbeck.types import Rows

COUNT = 50
TABLE = pa.table({
    "user": np.arange(COUNT), "age": np.arange(COUNT) * 2,
    "item": np.arange(COUNT) % 7, "price": np.arange(COUNT) % 7 * 10,
    "label": np.arange(COUNT) % 2,
})  # fmt: skip
ROWS = Rows(TABLE, np.arange(COUNT), "here", {"user": "user", "item": "item", "label": "label"})


def test_persons_and_things_stay_whole_and_meet_anew() -> None:
    made = Cross(count=400, item=("item", "price")).make(ROWS)
    user, age, item, price = (made.column(name) for name in ("user", "age", "item", "price"))
    assert (age == 2 * user).all()
    assert (price == 10 * item).all()
    assert (item != user % 7).mean() > 0.8 * 6 / 7
    assert made.table.column("label").null_count == 400
    assert made.table.schema.names == TABLE.schema.names


def test_equal_seeds_make_equal_rows_and_other_seeds_others() -> None:
    one, again, other = (Cross(count=30, item=("item",), seed=seed).make(ROWS) for seed in (1, 1, 2))
    assert one.table.equals(again.table)
    assert one.fingerprint == again.fingerprint
    assert not one.table.equals(other.table)
    assert other.source != one.source


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"count": 0, "item": ("item",)}, "at least 1"),
        ({"count": 5, "item": ()}, "a column were wanted"),
        ({"count": 5, "item": ("colour",)}, "no column 'colour'"),
        ({"count": 5, "item": ("label",)}, "is the label"),
    ],
)
def test_impossible_settings_are_refused(settings, words) -> None:
    with pytest.raises(UserError, match=words):
        Cross(**settings).make(ROWS)
