import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import NoSuchName, UserError
from limbeck.types import Axis, Batch, Key, Lists, Predictor, Rows, Signals, fingerprint


def rows(count: int = 7) -> Rows:
    table = pa.table(
        {
            "text": [f"t{i}" for i in range(count)],
            "number": np.arange(count) * 1.5,
            "items": [[f"i{j}" for j in range(i % 3)] for i in range(count)],
        }
    )
    return Rows(table, np.arange(count) * 2 + 10, "shop", {"text": "text"})


def key(count: int) -> Key:
    return Key("shop", np.arange(count), np.zeros(count, np.int64))


def test_fingerprints_differ_by_sort_version_and_value_and_not_by_order() -> None:
    plain = fingerprint("a", 1, x=1, y=[1, 2], z=None)
    assert plain == fingerprint("a", 1, z=None, y=[1, 2], x=1)
    others = [
        fingerprint("b", 1, x=1, y=[1, 2], z=None),
        fingerprint("a", 2, x=1, y=[1, 2], z=None),
        fingerprint("a", 1, x=1, y=[2, 1], z=None),
        fingerprint("a", 1, x="1", y=[1, 2], z=None),
        fingerprint("a", 1, x=1, y=[1, 2]),
    ]
    assert len({plain, *others}) == 6
    assert len(plain) == 32


def test_a_fingerprint_takes_only_what_has_one_spelling() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint("a", 1, x=float("nan"))
    with pytest.raises(TypeError):
        fingerprint("a", 1, x={1, 2})


@given(st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=6))
def test_lists_give_every_row_back(values: list[list[int]]) -> None:
    lists = Lists.of(values)
    assert len(lists) == len(values)
    assert [list(lists[i]) for i in range(len(values))] == values


def test_lists_of_text_stay_text() -> None:
    lists = Lists.of([["a"], [], ["b", "c"]])
    assert [lists[i] for i in range(3)] == [["a"], [], ["b", "c"]]


def test_a_batch_names_the_columns_it_has_when_asked_for_another() -> None:
    batch = Batch({"text": ["a", "b"], "size": np.zeros(2)}, key(2))
    assert list(batch.only(["size"])) == ["size"]
    for ask in (lambda: batch["texts"], lambda: batch.only(["texts"])):
        with pytest.raises(NoSuchName, match=r"^no column 'texts' in these rows; there are: text, size$"):
            ask()
    assert batch.get("texts") is None  # as a Mapping promises
    assert "texts" not in batch


def test_a_batch_refuses_columns_of_other_lengths() -> None:
    with pytest.raises(UserError, match="column 'size' has 3 rows, the batch has 2"):
        Batch({"size": np.zeros(3)}, key(2))


def test_signals_declare_their_kinds_and_name_what_is_lacking() -> None:
    said = Signals({"scores.ids": np.zeros((2, 1)), "scores.values": np.zeros((2, 1))}, {"scores": "scores"})
    assert said.get("scores") is None
    with pytest.raises(NoSuchName, match=r"no signal 'scores'; there are: scores.ids, scores.values"):
        said["scores"]
    with pytest.raises(UserError, match="signal 'logits' declares no kind; use one of logits, probabilities"):
        Signals({"logits": np.zeros(2)}, {"scores": "scores"})


def test_whatever_reads_and_answers_is_a_predictor() -> None:
    class Says:
        reads = ()
        fingerprint = "x"

        def __call__(self, batch: Batch) -> Signals:
            return Signals({}, {})

    assert isinstance(Says(), Predictor)
    assert not isinstance(rows(), Predictor)


def test_an_axis_has_titles_where_they_are_known() -> None:
    assert Axis("item", ("7", "8")).title(1) == "8"
    assert Axis("item", ("7", "8"), ("tea", "cup")).title(1) == "cup"
    assert Axis("item", ("7", "8"), ("tea", "cup")).fingerprint == Axis("item", ("7", "8")).fingerprint
    assert Axis("item", ("8", "7")).fingerprint != Axis("item", ("7", "8")).fingerprint


@given(st.permutations(range(7)), st.integers(1, 7))
def test_taken_rows_carry_their_ids_and_columns(order: list[int], count: int) -> None:
    whole = rows()
    taken = whole.take(np.array(order[:count]))
    assert taken.id.tolist() == [10 + 2 * i for i in order[:count]]
    assert taken.column("text") == [f"t{i}" for i in order[:count]]
    assert [list(taken.column("items")[row]) for row in range(count)] == [
        list(whole.column("items")[i]) for i in order[:count]
    ]


@given(st.integers(1, 9), st.integers(0, 12))
def test_batches_are_the_rows_end_to_end(size: int, count: int) -> None:
    batches = list(rows(count).batches(size))
    assert [i for batch in batches for i in batch.key.id.tolist()] == [10 + 2 * i for i in range(count)]
    assert [t for batch in batches for t in batch["text"]] == [f"t{i}" for i in range(count)]
    items = [list(batch["items"][row]) for batch in batches for row in range(len(batch.key))]
    assert items == [[f"i{j}" for j in range(i % 3)] for i in range(count)]
    assert all(len(batch.key) <= size for batch in batches)


def test_views_follow_their_rows() -> None:
    seen = Rows(rows().table, rows().id, "shop", {}, np.arange(7))
    assert seen.take(np.array([5, 1])).key.view.tolist() == [5, 1]
    assert seen.slice(2, 4).key.view.tolist() == [2, 3]
    assert rows().key.view.tolist() == [0] * 7


def test_the_fingerprint_of_rows_is_of_source_ids_views_and_order() -> None:
    plain = rows()
    others = [
        plain.take(np.array([1, 0, 2, 3, 4, 5, 6])),
        plain.slice(0, 6),
        Rows(plain.table, plain.id, "other"),
        Rows(plain.table, plain.id, "shop", {}, np.arange(7)),
    ]
    assert len({plain.fingerprint, *(r.fingerprint for r in others)}) == 5
    assert plain.select(["text"]).fingerprint == plain.fingerprint
    assert plain.take(np.arange(7)).fingerprint == plain.slice(0, 99).fingerprint == plain.fingerprint


def test_missing_columns_and_roles_are_named() -> None:
    with pytest.raises(UserError, match=r"no column 'price', 'size'; there are: text, number, items"):
        rows().select(["price", "text", "size"])
    with pytest.raises(UserError, match=r"no column 'price'; there are"):
        rows().column("price")
    with pytest.raises(UserError, match=r"no column has the role 'user'; name it under data.roles"):
        rows().role("user")
    assert rows().role("text") == "text"


def raw(array: pa.Array | pa.ChunkedArray) -> object:
    count = len(array)
    return Rows(pa.table({"x": array}), np.arange(count), "here").column("x")


def test_raw_columns_are_arrays_texts_or_lists() -> None:
    assert raw(pa.array(["a", None])) == ["a", ""]
    assert raw(pa.array(["a", "b"], pa.large_string())) == ["a", "b"]
    assert raw(pa.array(["a", "b", "a"]).dictionary_encode()) == ["a", "b", "a"]
    assert raw(pa.chunked_array([["a"], ["b"]])) == ["a", "b"]
    assert raw(pa.chunked_array([], pa.string())) == []
    numbers = raw(pa.array([1, None, 3]))
    assert isinstance(numbers, np.ndarray)
    assert np.array_equal(numbers, [1, np.nan, 3], equal_nan=True)
    flags = raw(pa.array([True, False]))
    assert isinstance(flags, np.ndarray)
    assert flags.dtype == np.bool_


def test_dates_count_microseconds() -> None:
    for array in (
        pa.array([dt.date(1970, 1, 2)]),
        pa.array([dt.datetime(1970, 1, 2)]),
        pa.array([86400], pa.timestamp("s")),
    ):
        found = raw(array)
        assert isinstance(found, np.ndarray)
        assert found.tolist() == [86_400_000_000]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int64())])
def test_lists_keep_their_rows_when_they_are_cut(kind: pa.DataType) -> None:
    values = [[1, 2], [], None, [3], [4, 5, 6]]
    whole = Rows(pa.table({"x": pa.array(values, kind)}), np.arange(5), "here")
    for cut in (whole, whole.slice(1, 5), whole.slice(3, 4), whole.take(np.array([4, 0, 2]))):
        lists = cut.column("x")
        wanted = [values[i] or [] for i in cut.id.tolist()]
        assert [np.asarray(lists[row]).tolist() for row in range(len(lists))] == wanted


@pytest.mark.parametrize(
    ("column", "missing"),
    [
        (pa.array(["a", "", None]), [False, True, True]),
        (pa.array(["a", "", None]).dictionary_encode(), [False, True, True]),
        (pa.array([1.0, float("nan"), None]), [False, True, True]),
        (pa.array([0, 1, None]), [False, False, True]),
    ],
)
def test_missing_is_null_nan_or_empty_text(column: pa.Array, missing: list[bool]) -> None:
    assert Rows(pa.table({"c": column}), np.arange(3), "s").missing("c").tolist() == missing


def test_rows_are_drawn_alike_every_time_from_all_over_and_in_their_order() -> None:
    rows = Rows(pa.table({"x": np.arange(1000)}), np.arange(1000), "here")
    drawn = rows.drawn(100)
    assert drawn.tolist() == sorted(set(drawn.tolist())) == rows.drawn(100).tolist()
    assert len(drawn) == 100
    assert all(((drawn // 250) == quarter).sum() > 10 for quarter in range(4))
    assert rows.drawn(5000).tolist() == list(range(1000))
