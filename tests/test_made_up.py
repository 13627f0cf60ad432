import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.artifact import Column
from limbeck.encoder import Encoder
from limbeck.encoders.history import History
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.errors import UserError
from limbeck.made_up import Requests, empty
from limbeck.types import Batch, Key, Lists

ENCODER = Encoder([Vocabulary("user", tuple("abcdef")), History("history", tuple("uvwxyz"), length=9)])
COLUMNS = (Column("user", "user", "text"), Column("history", "", "text", many=True))
ROWS = Batch(
    {"user": list("abf"), "history": Lists.of([["u", "w"], ["z"], ["x"] * 9])},
    Key("s", np.arange(3), np.zeros(3, np.int64)),
)
REQUESTS = Requests(ENCODER, COLUMNS, ENCODER(ROWS))


def test_axes_that_the_encoder_pads_are_free_and_no_other():
    assert REQUESTS.free == {("history", 1)}
    steady = Encoder([Vocabulary("user", tuple("ab"))])
    assert Requests(steady, COLUMNS[:1], {"user": np.array([2, 3])}).free == set()


@settings(deadline=None)
@given(rows=st.integers(1, 9), length=st.integers(1, 40), seed=st.integers(0, 5))
def test_requests_stay_within_the_known_ranges_and_pad_on_the_right(rows, length, seed):
    said = REQUESTS(rows, length, seed=seed)
    assert said["user"].shape == (rows,)
    assert said["history"].shape == (rows, min(length, 9))
    assert said["user"].max() <= 7
    assert said["history"].max() <= 7
    there = said["history"] > 0
    assert there[:, 0].all()
    assert (np.diff(there.astype(int), axis=1) <= 0).all()
    for name, value in REQUESTS(rows, length, seed=seed).items():
        np.testing.assert_array_equal(value, said[name])
        assert value.dtype == np.int64


def test_requests_do_not_copy_rows():
    known = {"x": np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)}

    class Given:
        kind, column = "given", "x"

        def __call__(self, column):
            return {"x": np.zeros((len(column), 4), np.float32)}

    said = Requests(Encoder([Given()]), (Column("x", "", "number"),), known)(20, 4)["x"]
    assert said.dtype == np.float32
    assert (said >= known["x"].min()).all()
    assert (said <= known["x"].max()).all()
    assert not np.isin(said, known["x"]).any()


def test_an_empty_row_is_empty_in_every_type():
    columns = [Column(kind, "", kind) for kind in ("text", "integer", "number", "boolean", "time")]
    batch = empty([*columns, Column("many", "", "integer", many=True)], 2)
    assert batch["text"] == ["", ""]
    assert [batch[name].dtype.name for name in ("integer", "number", "boolean", "time")] == [
        "int64",
        "float64",
        "bool",
        "int64",
    ]
    assert [len(batch["many"][row]) for row in (0, 1)] == [0, 0]


def test_too_few_rows_and_foreign_tensors_are_refused():
    with pytest.raises(UserError, match="at least 2 rows"):
        Requests(ENCODER, COLUMNS, {name: value[:1] for name, value in ENCODER(ROWS).items()})
    with pytest.raises(UserError, match=r"\['mask'\]"):
        Requests(ENCODER, COLUMNS, {"mask": np.ones((3, 2))})
