"""Knowledge is found by key, committed shard by shard, and never a neighbour's."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import LimbeckError, StoreDamaged, UnknownKey, UserError
from limbeck.store import Knowledge, Settings, Store, chunks, persons
from limbeck.types import Batch, Key, Predictor, Signals

KINDS = {"logits": "logits"}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def signals(values: np.ndarray) -> Signals:
    return Signals({"logits": values}, KINDS)


def answers(id: np.ndarray, view: np.ndarray, width: int = 3) -> np.ndarray:
    """A teacher: small whole numbers, so that every format holds them exactly."""
    return ((id[:, None] * 7 + view[:, None] * 3 + np.arange(width)) % 101).astype(np.float32)


def begin(folder: Path, *, dtype: str = "float32", people: bool = False, **knowledge: object) -> Store:
    return Store.create(
        folder, Settings("t", "s", KINDS, Knowledge(dtype, **knowledge), people), origin={"recipe": "r"}
    )


def label(store: Store, id: np.ndarray, view: np.ndarray | None = None, size: int = 4, person: object = None) -> Store:
    view = np.zeros(len(id), np.int64) if view is None else view
    for chunk in store.missing(chunks(Key("s", id, view), size=size, person=person)):
        store.write(chunk, signals(answers(chunk.id, chunk.view)))
    store.finish()
    return Store.open(store.folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.integers(0, 30), st.integers(-(2**63), 2**63 - 1)), st.integers(-2, 3)),
        min_size=1,
        max_size=25,
        unique=True,
    ),
    st.sampled_from(["float16", "bfloat16", "float32"]),
    st.integers(1, 9),
    st.data(),
)
def test_gathering_is_looking_up_in_a_dict(tmp_path_factory, keys, dtype, size, data):
    id, view = (np.array([key[i] for key in keys], np.int64) for i in (0, 1))
    values = data.draw(st.lists(st.integers(-100, 100), min_size=len(keys), max_size=len(keys)))
    values = np.array(values, np.float32)[:, None] + np.arange(3, dtype=np.float32)
    store = begin(tmp_path_factory.mktemp("store"), dtype=dtype)
    for chunk in store.missing(chunks(Key("s", id, view), size=size)):
        store.write(chunk, signals(values[chunk.positions]))
    store = Store.open(store.folder)
    known = dict(zip(keys, values, strict=True))
    asked = data.draw(st.lists(st.sampled_from(keys), max_size=30))
    found = store.gather(*(np.array([key[i] for key in asked], np.int64) for i in (0, 1)))
    assert found["logits"].dtype == np.float32
    assert len(found["logits"]) == len(asked)
    for key, row in zip(asked, found["logits"], strict=True):
        assert np.array_equal(row, known[key])
    stranger = data.draw(st.tuples(st.integers(-40, 40), st.integers(-3, 4)).filter(lambda key: key not in known))
    with pytest.raises(UnknownKey, match=f"id {stranger[0]}"):
        store.gather(np.array([keys[0][0], stranger[0]]), np.array([keys[0][1], stranger[1]]))


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8), ("float32", 0.0)])
def test_a_number_comes_back_to_within_half_a_step_of_its_format(tmp_path, dtype, step):
    values = np.random.default_rng(0).standard_normal((401, 41)).astype(np.float32)
    store = begin(tmp_path, dtype=dtype)
    [chunk] = chunks(Key("s", np.arange(401), np.zeros(401, np.int64)))
    store.write(chunk, signals(values))
    back = store.gather(np.arange(401))["logits"]
    assert np.all(np.abs(back - values) <= np.abs(values) * step + 2.0**-25)
    stored = store.gather(np.arange(401), decode=False)["logits"]
    assert stored.dtype == {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}[dtype]


def test_every_sort_of_signal_keeps_its_shape_and_meaning(tmp_path):
    kinds = {"picture": "embedding", "seen": "mask", "best": "scores", "price": "values", "count": "values"}
    rng = np.random.default_rng(0)
    said = {
        "picture": rng.standard_normal((5, 2, 3, 4)).astype(np.float32),
        "seen": rng.random((5, 7)) < 0.5,
        "best.ids": np.array([[1, 2], [3, 4], [5, -1], [0, 1], [9, 8]]),
        "best.values": np.array([[2, 1], [4, 3], [5, -np.inf], [1, 0], [9, 8]], np.float32),
        "best.tail": np.full((5, 1), 0.25),
        "price": rng.standard_normal(5),
        "count": np.arange(5, dtype=np.int64) << 40,
    }
    place = Settings("t", "s", kinds, Knowledge("float32", temperatures=(2.0,)))
    store = Store.create(tmp_path, place, origin={})
    [chunk] = chunks(Key("s", np.arange(5), np.zeros(5, np.int64)))
    store.write(chunk, Signals(said, kinds, tail_temperatures=(2.0,)))
    back = Store.open(tmp_path).gather(np.arange(5)[::-1])
    assert set(back) == set(said)
    assert back.tail_temperatures == (2.0,)
    for name, values in said.items():
        np.testing.assert_array_equal(
            back[name], values[::-1].astype(np.float32 if values.dtype.kind == "f" else values.dtype)
        )


def test_an_opened_store_is_a_predictor_that_reads_nothing(tmp_path):
    store = label(begin(tmp_path), np.array([5, 2, 9]))
    assert isinstance(store, Predictor)
    assert store.reads == ()
    batch = Batch({}, Key("s", np.array([9, 5]), np.zeros(2, np.int64)))
    np.testing.assert_array_equal(store(batch)["logits"], answers(batch.key.id, batch.key.view))
    with pytest.raises(UnknownKey, match="these rows count in source other"):
        store(Batch({}, Key("other", np.array([9]), np.zeros(1, np.int64))))


def test_answers_are_fresh_arrays(tmp_path):
    store = label(begin(tmp_path), np.arange(6))
    store.gather(np.arange(6))["logits"][:] = -1
    np.testing.assert_array_equal(store.gather(np.arange(6))["logits"], answers(np.arange(6), np.zeros(6, np.int64)))


def test_no_rows_asked_no_rows_given(tmp_path):
    empty = begin(tmp_path)
    assert len(empty) == 0
    assert len(empty.gather(np.array([], np.int64))) == 0
    with pytest.raises(UnknownKey, match="holds 0 rows"):
        empty.gather(np.array([1]))
    assert label(empty, np.arange(3)).gather(np.array([], np.int64))["logits"].shape == (0, 3)


def test_a_view_that_was_not_labelled_is_unknown(tmp_path):
    store = label(begin(tmp_path), np.arange(3))
    with pytest.raises(UnknownKey, match="id 1 view 2"):
        store.gather(np.array([1]), np.array([2]))


def test_a_row_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="id 4 view 0"):
        chunks(Key("s", np.array([4, 1, 4]), np.zeros(3, np.int64)), size=2)
    store = begin(tmp_path)
    [chunk] = chunks(Key("s", np.array([4, 1]), np.zeros(2, np.int64)))
    with pytest.raises(UserError, match="id 4 view 0"):
        store.write(chunk.take(np.array([0, 0, 1])), signals(np.zeros((3, 3), np.float32)))


def test_a_killed_labelling_resumed_equals_one_that_was_not(tmp_path):
    id = np.random.default_rng(0).permutation(100)[:30]
    whole = label(begin(tmp_path / "whole"), id)
    wanted = files(whole.folder)
    half = begin(tmp_path / "half")
    for chunk in chunks(Key("s", id, np.zeros(30, np.int64)), size=4)[::2]:
        record = half.write(chunk, signals(answers(chunk.id, chunk.view)))
    (half.folder / "shards" / f"{record.shard}.json").unlink()  # killed between the data and the record
    assert not Store.open(half.folder).complete
    assert files(label(Store.open(half.folder), id).folder) == wanted
    assert whole.complete
    assert Store.open(whole.folder).missing(chunks(Key("s", id, np.zeros(30, np.int64)), size=7)) == []


def test_rows_that_another_run_stored_are_not_asked_again(tmp_path):
    store = label(begin(tmp_path), np.arange(10))
    [todo] = store.missing(chunks(Key("s", np.arange(5, 15), np.zeros(10, np.int64)), size=10))
    assert todo.id.tolist() == [10, 11, 12, 13, 14]
    assert todo.positions.tolist() == [5, 6, 7, 8, 9]


def test_pieces_are_stored_as_the_whole(tmp_path):
    id = np.arange(10)
    [chunk] = chunks(Key("s", id, np.zeros(10, np.int64)))
    scores = np.random.default_rng(0).standard_normal((10, 50)).astype(np.float32)
    one, many = (begin(tmp_path / n, top=4, sampled=3, temperatures=(1.0,)) for n in ("one", "many"))
    one.write(chunk, signals(scores))
    many.write(chunk, (signals(scores[i : i + 3]) for i in range(0, 10, 3)))
    assert files(one.folder) == files(many.folder)
    assert set(one.gather(id)) == {"logits.ids", "logits.values", "logits.tail"}


@pytest.mark.parametrize("rows", [2, 4])
def test_a_teacher_that_answers_another_number_of_rows_is_refused(tmp_path, rows):
    [chunk] = chunks(Key("s", np.arange(3), np.zeros(3, np.int64)))
    with pytest.raises(UserError, match="rows"):
        begin(tmp_path).write(chunk, signals(np.zeros((rows, 3), np.float32)))
    assert not list((tmp_path / "shards").iterdir())


def test_signals_of_another_shape_or_name_are_refused(tmp_path):
    store = begin(tmp_path)
    first, second = chunks(Key("s", np.arange(4), np.zeros(4, np.int64)), size=2)
    store.write(first, signals(np.zeros((2, 3), np.float32)))
    with pytest.raises(UserError, match="same signals in the same formats and shapes"):
        store.write(second, signals(np.zeros((2, 5), np.float32)))
    with pytest.raises(UserError, match="the store was begun for"):
        store.write(second, Signals({"logits": np.zeros((2, 3), np.float32)}, {"logits": "scores"}))


def test_a_store_of_other_settings_is_not_overwritten(tmp_path):
    label(begin(tmp_path), np.arange(3))
    before = files(tmp_path)
    with pytest.raises(UserError, match="other settings"):
        begin(tmp_path, dtype="float16")
    assert files(tmp_path) == before
    assert len(begin(tmp_path)) == 3
    with pytest.raises(UserError, match="no store"):
        Store.open(tmp_path / "elsewhere")


def test_a_damaged_shard_is_noticed_when_it_is_touched(tmp_path):
    store = label(begin(tmp_path), np.arange(8))
    path = tmp_path / "shards" / next(iter(store.records.values())).file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="limbeck store repair"):
        Store.open(tmp_path).gather(np.arange(8))
    path.unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        Store.open(tmp_path).gather(np.arange(8))
    assert [
        chunk.id.tolist()
        for chunk in Store.open(tmp_path).missing(chunks(Key("s", np.arange(8), np.zeros(8, np.int64)), size=4))
    ] in ([[0, 1, 2, 3]], [[4, 5, 6, 7]])


def test_a_store_that_knows_people_wants_them(tmp_path):
    [chunk] = chunks(Key("s", np.arange(2), np.zeros(2, np.int64)))
    with pytest.raises(UserError, match="persons"):
        begin(tmp_path, people=True).write(chunk, signals(np.zeros((2, 3), np.float32)))
    assert persons([7, "Ann"]).tolist() == persons(np.array(["7", "Ann"])).tolist()
    assert len(set(persons(range(1000)).tolist())) == 1000


def _write(folder: Path, offset: float, gate: object, said: object) -> None:
    store = begin(folder)
    [chunk] = chunks(Key("s", np.arange(4), np.zeros(4, np.int64)))
    gate.wait()
    try:
        store.write(chunk, signals(answers(chunk.id, chunk.view) + offset))
        said.put("done")
    except LimbeckError as failed:
        said.put(str(failed))


@pytest.mark.parametrize("differ", [False, True])
def test_of_two_writers_the_first_wins_and_a_loser_with_other_bytes_says_so(tmp_path, differ):
    processes = multiprocessing.get_context("spawn")
    gate, said = processes.Barrier(2), processes.Queue()
    racers = [processes.Process(target=_write, args=(tmp_path, n * differ, gate, said)) for n in (0, 1)]
    for racer in racers:
        racer.start()
    heard = sorted(said.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join()
    store = Store.open(tmp_path)
    found = store.gather(np.arange(4))["logits"] - answers(np.arange(4), np.zeros(4, np.int64))
    assert found.min() == found.max()
    assert len(list((tmp_path / "shards").iterdir())) == 2
    assert [text == "done" for text in heard].count(True) == (1 if differ else 2)
    assert ("not deterministic" in "".join(heard).replace("\n", " ")) == differ


@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("where", ["fsync", "replace", "link", "open"])
def test_a_full_disk_leaves_finished_shards_and_no_half_one(tmp_path, monkeypatch, where, call):
    store = begin(tmp_path)
    first, second = chunks(Key("s", np.arange(8), np.zeros(8, np.int64)), size=4)
    store.write(first, signals(answers(first.id, first.view)))
    before, calls, real = files(tmp_path), [], getattr(os, where)

    def full(*args: object, **options: object) -> object:
        name = str(args[0])
        if where != "open" or ".tmp." in name:
            calls.append(name)
            if len(calls) == call + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(os, where, full)
    said = ""
    try:
        store.write(second, signals(answers(second.id, second.view)))
    except UserError as failed:
        said = str(failed)
    monkeypatch.undo()
    assert ("the disk is full while writing" in said) == (len(calls) > call)
    assert ("run the same command again" in said) == (len(calls) > call)
    after = files(tmp_path)
    assert not [name for name in after if ".tmp." in name]
    assert {name: after[name] for name in before} == before
    store = label(Store.open(tmp_path), np.arange(8))
    np.testing.assert_array_equal(store.gather(np.arange(8))["logits"], answers(np.arange(8), np.zeros(8, np.int64)))
