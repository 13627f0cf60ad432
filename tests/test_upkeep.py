"""Damage is found wherever it is, forgetting is for good, and cleaning takes only what nobody needs."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from limbeck import upkeep
from limbeck.errors import StoreDamaged, UnknownKey, UserError
from limbeck.store import Knowledge, Settings, Store, chunks, persons
from limbeck.types import Key, Signals

KINDS = {"scores": "scores"}
USERS = [f"user {i % 7}" for i in range(20)]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def values(id: np.ndarray) -> np.ndarray:
    return (id[:, None] * 1000.5 + np.arange(3)).astype(np.float32)


def label(folder: Path, users: list[str] = USERS, source: str = "s") -> Store:
    """Label twenty rows in five shards, or what is missing of them."""
    settings = Settings("t", source, KINDS, Knowledge("float32"), people=True)
    store = Store.create(folder, settings, origin={"recipe": "r"})
    id = (np.arange(20) * 3) % 40
    for chunk in store.missing(chunks(Key("s", id, np.zeros(20, np.int64)), size=4, person=persons(users))):
        store.write(chunk, Signals({"scores": values(chunk.id)}, KINDS))
    store.finish()
    return Store.open(folder)


def files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def repair(folder: Path) -> None:
    upkeep.discard(folder, upkeep.verify(folder))
    label(folder)


def test_a_whole_store_has_no_damage(tmp_path):
    label(tmp_path)
    assert upkeep.verify(tmp_path) == []
    with pytest.raises(UserError, match="no store"):
        upkeep.verify(tmp_path / "elsewhere")


def test_every_flipped_bit_is_found_and_mended(tmp_path):
    label(tmp_path)
    upkeep.forget(tmp_path, "user 3")
    whole = files(tmp_path)
    places = [(p, bit) for p, data in whole.items() for bit in range(len(data) * 8)]
    picked = random.Random(0)
    every_file = [picked.choice([place for place in places if place[0] == p]) for p in {p for p, _ in places}]
    for turn, (path, bit) in enumerate([*picked.sample(places, 500), *every_file]):
        data = bytearray(whole[path])
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        found = upkeep.verify(tmp_path)
        assert [damage.path for damage in found] == [path], (path, bit)
        if turn % 25 == 0 or turn >= 500:
            repair(tmp_path)
            assert files(tmp_path) == whole
        path.write_bytes(whole[path])


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_every_file_cut_short_is_found_and_mended(tmp_path, cut):
    label(tmp_path)
    whole = files(tmp_path)
    for path in whole:
        if path.name == "origins.json":
            continue
        path.write_bytes(whole[path][:cut])
        assert [damage.path for damage in upkeep.verify(tmp_path)] == [path]
        repair(tmp_path)
        assert files(tmp_path) == whole


def test_every_missing_file_is_found_and_mended(tmp_path):
    label(tmp_path)
    whole = files(tmp_path)
    for path in whole:
        if path.name in ("origins.json", "complete.json"):
            continue
        path.unlink()
        found = upkeep.verify(tmp_path)
        assert [damage.path for damage in found] == [path]
        assert "missing" in str(found[0])
        repair(tmp_path)
        assert files(tmp_path) == whole


def test_a_shard_gone_without_a_trace_is_found(tmp_path):
    store = label(tmp_path)
    whole = files(tmp_path)
    shard = list(store.records)[2]
    for path in (tmp_path / "shards").glob(f"{shard}*"):
        path.unlink()
    assert [damage.shard for damage in upkeep.verify(tmp_path)] == [shard]
    shutil.rmtree(tmp_path / "shards")
    assert {damage.shard for damage in upkeep.verify(tmp_path)} == set(store.records)
    repair(tmp_path)
    assert files(tmp_path) == whole


@pytest.mark.parametrize("what", ["data", "record", "both"])
def test_swapped_shards_are_found_and_mended(tmp_path, what):
    one, other = list(label(tmp_path).records.values())[:2]
    whole, shards = files(tmp_path), tmp_path / "shards"
    pairs = {"data": (one.file, other.file), "record": (f"{one.shard}.json", f"{other.shard}.json")}
    for a, b in pairs.values() if what == "both" else [pairs[what]]:
        first, second = (shards / a).read_bytes(), (shards / b).read_bytes()
        (shards / a).write_bytes(second)
        (shards / b).write_bytes(first)
    assert {damage.shard for damage in upkeep.verify(tmp_path)} == {one.shard, other.shard}
    repair(tmp_path)
    assert files(tmp_path) == whole


def test_files_of_another_store_or_another_sort_are_found(tmp_path):
    store = label(tmp_path / "a")
    label(tmp_path / "b", source="other")
    whole = files(tmp_path / "a")
    shard = next(iter(store.records))
    foreign = next(iter((tmp_path / "b" / "shards").glob("*.json")))
    for source, target in [
        (foreign, tmp_path / "a" / "shards" / f"{shard}.json"),
        (tmp_path / "a" / "complete.json", tmp_path / "a" / "shards" / f"{shard}.json"),
        (tmp_path / "a" / "forgotten.json", tmp_path / "a" / "store.json"),
        (tmp_path / "b" / "store.json", tmp_path / "a" / "store.json"),
        (tmp_path / "b" / "store.json", tmp_path / "a" / "store.backup.json"),
    ]:
        shutil.copy(source, target)
        assert [damage.path for damage in upkeep.verify(tmp_path / "a")] == [target]
        repair(tmp_path / "a")
        assert files(tmp_path / "a") == whole
    shutil.copy(foreign, tmp_path / "a" / "shards" / foreign.name)
    assert [damage.reason for damage in upkeep.verify(tmp_path / "a")] == ["it is of another store"]


def test_repair_relabels_only_the_damaged(tmp_path):
    records = list(label(tmp_path).records.values())
    before = {path: path.stat().st_ino for path in files(tmp_path)}
    path = tmp_path / "shards" / records[1].file
    path.write_bytes(b"gone")
    assert upkeep.discard(tmp_path, upkeep.verify(tmp_path)) == [records[1].shard]
    label(tmp_path)
    changed = {p for p, inode in before.items() if p.stat().st_ino != inode and p.parent.name == "shards"}
    assert changed <= {path, tmp_path / "shards" / f"{records[1].shard}.json"}


@pytest.mark.parametrize("stem", ["store", "forgotten"])
def test_what_is_lost_in_both_copies_is_said_to_be_lost(tmp_path, stem):
    label(tmp_path)
    for name in (f"{stem}.json", f"{stem}.backup.json"):
        (tmp_path / name).write_bytes(b"{}")
    found = upkeep.verify(tmp_path)
    assert [damage.repair for damage in found] == ["none", "none"]
    with pytest.raises(StoreDamaged, match="delete the store"):
        upkeep.discard(tmp_path, found)


def test_a_forgotten_person_is_gone_from_the_bytes_and_the_others_stay(tmp_path):
    store = label(tmp_path)
    id = (np.arange(20) * 3) % 40
    theirs = np.array([user == "user 3" for user in USERS])
    needles = [row.tobytes() for row in values(id[theirs])]
    assert all(any(needle in data for data in files(tmp_path).values()) for needle in needles)
    for place in ("shards/left.arrow.tmp.1.aa", f"shards/{next(iter(store.records))}-00.arrow", "shards/ff-00.arrow"):
        (tmp_path / place).write_bytes(b"".join(needles))  # as a killed run leaves them
    gone = upkeep.forget(tmp_path, "user 3")
    assert gone.rows == theirs.sum() == 3
    assert not any(needle in data for data in files(tmp_path).values() for needle in needles)
    assert upkeep.verify(tmp_path) == []
    store = Store.open(tmp_path)
    assert store.complete
    assert store.forgotten.tolist() == persons(["user 3"]).tolist()
    np.testing.assert_array_equal(store.gather(id[~theirs])["scores"], values(id[~theirs]))
    with pytest.raises(UnknownKey, match=f"id {id[theirs][0]}.* were forgotten"):
        store.gather(id)


def test_labelling_again_does_not_bring_a_forgotten_person_back(tmp_path):
    label(tmp_path / "a")
    upkeep.forget(tmp_path / "a", "user 3")
    forgotten = files(tmp_path / "a")
    label(tmp_path / "a")
    assert files(tmp_path / "a") == forgotten
    shutil.rmtree(tmp_path / "a" / "shards")
    repair(tmp_path / "a")
    assert files(tmp_path / "a") == forgotten
    settings = Store.open(tmp_path / "a").settings
    Store.create(tmp_path / "b", settings, origin={"recipe": "r"})
    assert upkeep.forget(tmp_path / "b", "user 3") == upkeep.Forgotten(0, 0)
    label(tmp_path / "b")
    assert {p.name: data for p, data in files(tmp_path / "b").items()} == {p.name: d for p, d in forgotten.items()}


def test_forgetting_twice_or_a_stranger_changes_no_shard(tmp_path):
    label(tmp_path)
    upkeep.forget(tmp_path, "user 3")
    before = files(tmp_path / "shards")
    assert upkeep.forget(tmp_path, "user 3") == upkeep.Forgotten(0, 0)
    assert upkeep.forget(tmp_path, "nobody") == upkeep.Forgotten(0, 0)
    assert files(tmp_path / "shards") == before


def test_everybody_can_be_forgotten(tmp_path):
    label(tmp_path)
    assert sum(upkeep.forget(tmp_path, user).rows for user in sorted(set(USERS))) == 20
    store = Store.open(tmp_path)
    assert (len(store), store.complete, upkeep.verify(tmp_path)) == (0, True, [])
    with pytest.raises(UnknownKey, match="forgotten"):
        store.gather(np.array([3]))


@pytest.mark.parametrize("step", range(9))
def test_forgetting_killed_at_any_step_is_finished_by_asking_again(tmp_path, monkeypatch, step):
    class Killed(BaseException):
        pass

    label(tmp_path / "once")
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    upkeep.forget(tmp_path / "once", "user 3")
    calls, real = [], os.replace

    def replace(*args):
        calls.append(args)
        if len(calls) == step + 1:
            raise Killed
        return real(*args)

    monkeypatch.setattr(os, "replace", replace)
    try:
        upkeep.forget(tmp_path / "twice", "user 3")
    except Killed:
        store = Store.open(tmp_path / "twice")
        np.testing.assert_array_equal(store.gather(np.array([0]))["scores"], values(np.array([0])))
        assert (persons(["user 3"])[0] in store.forgotten) == (step > 0)  # one copy is enough
    monkeypatch.undo()
    assert len(calls) >= min(step + 1, 8)
    assert [d for d in upkeep.verify(tmp_path / "twice") if d.path.parent.name == "shards"] == []
    upkeep.forget(tmp_path / "twice", "user 3")
    assert [d.read_bytes() for d in sorted((tmp_path / "twice").rglob("*.*"))] == [
        d.read_bytes() for d in sorted((tmp_path / "once").rglob("*.*"))
    ]


def test_a_damaged_shard_does_not_keep_the_others_from_forgetting(tmp_path):
    store = label(tmp_path)
    hurt = next(r for r in store.records.values() if r.rows)
    (tmp_path / "shards" / hurt.file).write_bytes(b"gone")
    with pytest.raises(StoreDamaged, match=hurt.file):
        upkeep.forget(tmp_path, "user 3")
    repair(tmp_path)
    assert upkeep.verify(tmp_path) == []
    assert len(Store.open(tmp_path)) == 17


def test_a_store_without_people_cannot_forget(tmp_path):
    Store.create(tmp_path, Settings("t", "s", KINDS), origin={})
    with pytest.raises(UserError, match="does not say whose"):
        upkeep.forget(tmp_path, "user 3")


def test_cleaning_takes_what_killed_runs_left_and_nothing_else(tmp_path):
    kept = label(tmp_path / "kept")
    label(tmp_path / "other")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    before = files(tmp_path)
    strays = ["kept/store.json.tmp.1.ab", "kept/shards/x.arrow.tmp.2.cd", "kept/shards/ff-00.arrow"]
    strays.append(f"kept/shards/{next(iter(kept.records))}-00.arrow")
    for name in strays:
        (tmp_path / name).write_bytes(b"12345")
    assert upkeep.verify(kept.folder) == []
    assert upkeep.clean(tmp_path) == upkeep.Cleaned(4, 20)
    assert files(tmp_path) == before
    assert upkeep.clean(tmp_path / "nowhere") == upkeep.Cleaned(0, 0)


def test_the_list_of_stores_says_what_they_are(tmp_path):
    store = label(tmp_path / "whole")
    Store.create(tmp_path / "begun", Settings("t", "s", KINDS), origin={})
    shutil.copytree(tmp_path / "whole", tmp_path / "hurt")
    (tmp_path / "hurt" / "store.json").write_bytes(b"{}")
    begun, hurt, whole = upkeep.list_stores(tmp_path)
    assert (whole.id, whole.rows, whole.complete, whole.problem) == (store.fingerprint, 20, True, "")
    assert whole.settings == store.settings
    assert whole.bytes == sum(len(data) for data in files(tmp_path / "whole").values())
    assert (begun.rows, begun.complete, begun.problem) == (0, False, "")
    assert (hurt.id, hurt.rows, hurt.complete) == (store.fingerprint, 20, False)
    assert "repair" in hurt.problem
    assert upkeep.list_stores(tmp_path / "nowhere") == []
