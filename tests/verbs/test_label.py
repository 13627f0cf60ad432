from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limbeck import upkeep
from limbeck.errors import UnknownKey, UserError
from limbeck.knowledge import Knowledge
from limbeck.shard import Record, read_keys
from limbeck.store import Store
from limbeck.types import Batch, Kind, Rows, Signals
from limbeck.verbs import label as room
from limbeck.verbs.label import Labelling, label

ROWS = 101
WORDS = ["tea" * (i % 7) + str(i) for i in range(ROWS)]
EXACT = Knowledge(dtype="float32")


def rows(count: int = ROWS, **roles: str) -> Rows:
    table = pa.table({"text": WORDS[:count], "user": [f"u{i % 9}" for i in range(count)], "secret": [0] * count})
    return Rows(table, np.arange(count) * 5 + 2, "shop", roles)


class Teacher:
    """Answers by the text alone, and remembers who was asked and with whom."""

    reads = ("text",)

    def __init__(self, classes: int = 4, kind: Kind = "logits", name: str = "teacher") -> None:
        self.classes, self.kind, self.fingerprint = classes, kind, name
        self.asked: Counter[int] = Counter()
        self.batches: list[list[str]] = []

    def __call__(self, batch: Batch) -> Signals:
        assert set(batch) == {"text"}
        self.asked.update(batch.key.id.tolist())
        self.batches.append(list(batch["text"]))
        return Signals({str(self.kind): self.says(batch["text"])}, {str(self.kind): self.kind})

    def says(self, texts: Sequence[str]) -> np.ndarray:
        drawn = [np.random.default_rng(list(text.encode())).normal(size=self.classes) for text in texts]
        return np.array(drawn).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 7, 128])
@pytest.mark.parametrize("roles", [{}, {"text": "text"}])
def test_every_row_is_asked_once_and_its_answer_kept_under_its_key(
    tmp_path: Path, batch: int, roles: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHARD_ROWS", 32)
    monkeypatch.setattr(room, "SHARD_BYTES", 1)
    teacher = Teacher()
    store = label(teacher, rows(**roles), tmp_path, Labelling(EXACT, batch=batch))
    assert len(store) == ROWS
    assert store.complete
    teacher.asked.subtract([2])  # the first also tells which signals there are
    assert teacher.asked == Counter(rows().id.tolist())
    assert max(map(len, teacher.batches)) <= batch
    order = np.random.default_rng(1).permutation(ROWS)
    said = store(rows().take(order).batch(store.reads))
    np.testing.assert_array_equal(said["logits"], teacher.says([WORDS[i] for i in order]))
    assert said.kinds == {"logits": "logits"}


def test_texts_are_asked_in_order_of_length_so_that_little_is_padded(tmp_path: Path) -> None:
    teacher = Teacher()
    label(teacher, rows(text="text"), tmp_path, Labelling(EXACT, batch=10))
    lengths = [len(text) for batch in teacher.batches[1:] for text in batch]
    assert lengths == sorted(lengths)


def test_rows_that_are_there_are_not_asked_again(tmp_path: Path) -> None:
    label(Teacher(), rows(40), tmp_path)
    teacher = Teacher()
    store = label(teacher, rows(60), tmp_path)
    assert len(store) == 60
    assert set(teacher.asked) == {2, *rows().id[40:60].tolist()}
    again = Teacher()
    assert len(label(again, rows(60), tmp_path)) == 60
    assert again.asked == Counter(), "not even about the first row: an answer may cost money"


def test_a_labelling_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARD_ROWS", 20)
    monkeypatch.setattr(room, "SHARD_BYTES", 1)

    class Tired(Teacher):
        def __call__(self, batch: Batch) -> Signals:
            if sum(self.asked.values()) > 60:
                raise KeyboardInterrupt
            return super().__call__(batch)

    how = Labelling(EXACT, batch=10)
    tired, fresh = Tired(), Teacher()
    with pytest.raises(KeyboardInterrupt):
        label(tired, rows(), tmp_path, how)
    (place,) = tmp_path.iterdir()
    assert not Store.open(place).complete
    store = label(fresh, rows(), tmp_path, how)
    assert 0 < len(fresh.asked) < 80
    assert store.complete
    whole = label(Teacher(), rows(), tmp_path / "whole", how)
    for name, value in whole(rows().batch(())).items():
        assert np.array_equal(store(rows().batch(()))[name], value)


@pytest.mark.parametrize("lost", ["-*.arrow", ".json", "*"])
def test_lost_shards_are_labelled_again_and_no_others(
    tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHARD_ROWS", 20)
    how = Labelling(EXACT, batch=10)
    before = label(Teacher(), rows(), tmp_path, how)
    names = sorted({path.stem for path in (before.folder / "shards").glob("*.json")})
    assert len(names) == 6
    gone = [path for name in names[1:3] for path in (before.folder / "shards").glob(f"{name}{lost}")]
    assert gone
    lost_ids = [i for name in names[1:3] for i in read_keys(before.folder / "shards", before.records[name])[0].tolist()]
    for path in gone:
        path.unlink()
    teacher = Teacher()
    store = label(teacher, rows(), tmp_path, how)
    assert store.complete
    lost_rows = sum(before.records[name].rows for name in names[1:3])
    assert set(teacher.asked) - {2} == set(lost_ids) - {2}
    assert len(lost_ids) == lost_rows < 60
    np.testing.assert_array_equal(store(rows().batch(()))["logits"], Teacher().says(WORDS))


def test_long_heads_are_kept_by_their_best_with_the_tail(tmp_path: Path) -> None:
    teacher = Teacher(classes=50)
    store = label(teacher, rows(), tmp_path, Labelling(Knowledge("float32", 5, temperatures=(1.0, 3.0)), batch=9))
    said = store(rows().batch(()))
    logits = teacher.says(WORDS).astype(np.float64)
    best = np.argsort(-logits, axis=1)[:, :5]
    assert np.array_equal(said["logits.ids"], best)
    for column, temperature in enumerate((1.0, 3.0)):
        powers = np.exp(logits / temperature)
        outside = 1 - np.take_along_axis(powers, best, 1).sum(1) / powers.sum(1)
        np.testing.assert_allclose(said["logits.tail"][:, column], outside, rtol=1e-5)


def test_knowledge_kept_otherwise_is_another_store(tmp_path: Path) -> None:
    for how in (Labelling(EXACT), Labelling(Knowledge("float16")), Labelling(Knowledge("float32", 2))):
        label(Teacher(), rows(), tmp_path, how)
    label(Teacher(name="other"), rows(), tmp_path, Labelling(EXACT))
    label(Teacher(), replace(rows(), source="elsewhere"), tmp_path, Labelling(EXACT))
    assert len(list(tmp_path.iterdir())) == 5


def test_forgotten_people_are_not_kept_again(tmp_path: Path) -> None:
    told = rows(user="user")
    store = label(Teacher(), told, tmp_path, Labelling(EXACT))
    upkeep.forget(store.folder, "u3")
    theirs = np.array([user == "u3" for user in told.column("user")])
    for _ in range(2):
        teacher = Teacher()
        again = label(teacher, told, tmp_path, Labelling(EXACT))
        assert len(again) == ROWS - theirs.sum()
        assert set(teacher.asked) <= {2}
        with pytest.raises(UnknownKey, match="were forgotten"):
            again(told.take(np.flatnonzero(theirs)).batch(()))
        said = again(told.take(np.flatnonzero(~theirs)).batch(()))["logits"]
        np.testing.assert_array_equal(said, Teacher().says(np.array(WORDS)[~theirs].tolist()))


def test_new_rows_of_forgotten_people_are_left_out(tmp_path: Path) -> None:
    store = label(Teacher(), rows(50, user="user"), tmp_path, Labelling(EXACT))
    upkeep.forget(store.folder, "u3")
    again = label(Teacher(), rows(user="user"), tmp_path, Labelling(EXACT))
    kept = sum(user != "u3" for user in rows().column("user"))
    assert len(again) == kept


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no rows to label"):
        label(Teacher(), rows().slice(0, 0), tmp_path)

    class Broken(Teacher):
        def says(self, texts: Sequence[str]) -> np.ndarray:
            return np.where(np.array([t.endswith("7") for t in texts])[:, None], np.nan, super().says(texts))

    with pytest.raises(UserError, match=r"signal 'logits' holds nan in \d+ rows, first in id"):
        label(Broken(), rows(), tmp_path)


def test_the_origin_leads_back_to_the_teacher(tmp_path: Path) -> None:
    origin: dict[str, Any] = {"recipe": "a.yaml", "seed": 3}
    (kept,) = label(Teacher(), rows(), tmp_path, Labelling(EXACT, origin=origin)).origins
    assert {name: kept[name] for name in origin} == origin


def test_every_set_of_rows_keeps_its_origin_and_what_it_took(tmp_path: Path) -> None:
    def asked(some: Rows, recipe: str) -> Store:
        return label(Teacher(), some, tmp_path, Labelling(EXACT, origin={"recipe": recipe}))

    first, second = rows().slice(0, 60), rows().slice(40, ROWS)
    asked(first, "a")
    asked(second, "b")
    store = asked(first, "c")
    assert [(one["recipe"], one["rows"]) for one in store.origins] == [
        ("c", first.fingerprint),
        ("b", second.fingerprint),
    ]
    before = room.seconds_of(store, first)
    assert 0 < before < 60
    assert room.seconds_of(asked(first, "c"), first) == before
    assert room.seconds_of(store, rows()) == 0.0


def test_a_store_waits_for_shards_of_other_rows_before_it_is_called_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHARD_ROWS", 20)
    first, second, how = rows().slice(0, 60), rows().slice(60, ROWS), Labelling(EXACT, batch=10)
    label(Teacher(), first, tmp_path, how)
    store = label(Teacher(), second, tmp_path, how)
    before = {path: path.read_bytes() for path in (store.folder / "shards").iterdir()}
    for record in list(store.records.values())[:4]:
        (store.folder / "shards" / record.file).unlink()
        (store.folder / "shards" / f"{record.shard}.json").unlink()
    lost = [r for r in list(store.records.values())[:4] if read_keys_of(store, r) & set(second.id.tolist())]
    assert 0 < len(lost) < 4, "some of each"
    assert not label(Teacher(), second, tmp_path, how).complete
    assert label(Teacher(), first, tmp_path, how).complete
    assert {path: path.read_bytes() for path in (store.folder / "shards").iterdir()} == before


def read_keys_of(store: Store, record: Record) -> set[int]:
    return set(range(record.ids[0], record.ids[1] + 1, 5))
