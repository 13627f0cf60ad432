from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.encoder import Encoder, as_text, lookup, stack
from limbeck.encoders.history import History
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.errors import NoSuchName
from limbeck.types import Rows

ITEMS = ("a", "b", "c", "d", "e")


def encoder(length: int = 3) -> Encoder:
    return Encoder([Vocabulary("user", ("ann", "bob")), History("history", ITEMS, length=length)])


def rows(count: int = 23) -> Rows:
    histories = [[ITEMS[(i + j) % 5] for j in range(i % 5)] for i in range(count)]
    users = [("ann", "bob", "eve")[i % 3] for i in range(count)]
    return Rows(pa.table({"history": histories, "user": users, "secret": [0] * count}), np.arange(count), "shop")


@given(st.lists(st.integers(-5, 5)), st.lists(st.integers(-5, 5), unique=True))
def test_lookup_finds_positions_whatever_the_type(asked: list[int], known: list[int]) -> None:
    values = [str(v) for v in known]
    wanted = [known.index(v) if v in known else -1 for v in asked]
    for raw in (
        np.array(asked, np.int64),
        [str(v) for v in asked],
        pa.array(asked, pa.int32()),
        np.array(asked, float),
    ):
        assert lookup(values, raw).tolist() == wanted


def test_text_of_any_arrow_type_is_one() -> None:
    for array in (pa.array(["x"], pa.large_string()), pa.array(["x"]).dictionary_encode(), ["x"], np.array(["x"])):
        assert as_text(array).equals(pa.array(["x"]))


def test_tensors_have_the_names_and_rows_of_the_batch() -> None:
    tensors = encoder()(rows().batch())
    assert list(tensors) == ["user", "history"]
    assert tensors["user"].tolist()[:4] == [2, 3, 1, 2]
    assert tensors["history"].shape == (23, 3)
    assert encoder().reads == ("user", "history")
    assert encoder().padded == (("history",),)
    assert encoder()["history"].length == 3


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(NoSuchName, match="no column 'user' in these rows; there are: history"):
        encoder()(rows().batch(["history"]))


@given(st.integers(1, 30))
def test_the_size_of_the_pieces_changes_nothing(size: int) -> None:
    whole = encoder()(rows().batch())
    pieces = encoder().rows(rows(), size)
    assert whole.keys() == pieces.keys()
    assert all(np.array_equal(whole[name], pieces[name]) for name in whole)


def test_pieces_of_different_widths_are_padded_alike() -> None:
    found = stack([np.array([[1, 2]]), np.array([[3], [4]]), np.zeros((0, 3), np.int64)])
    assert found.tolist() == [[1, 2, 0], [3, 0, 0], [4, 0, 0]]
    deep = stack([np.ones((1, 2, 4)), np.ones((1, 1, 4))])
    assert deep.shape == (2, 2, 4)
    assert deep.sum() == 12
    assert stack([np.array([1.5]), np.array([2.5])]).tolist() == [1.5, 2.5]


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    encoder().save(tmp_path / "encoder")
    again = Encoder.load(tmp_path / "encoder")
    assert again.fingerprint == encoder().fingerprint
    whole, found = encoder().rows(rows()), again.rows(rows())
    assert all(np.array_equal(whole[name], found[name]) for name in whole)


def test_the_fingerprint_is_of_all_encodings_in_order() -> None:
    user, history = encoder().encodings
    prints = {Encoder(e).fingerprint for e in ([user, history], [history, user], [user], [])}
    assert len({*prints, encoder(4).fingerprint}) == 5
