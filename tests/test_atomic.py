"""A file is whole or absent, of many writers one wins, and sealed JSON shows every flipped bit."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import atomic
from limbeck.errors import UserError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


@given(JSON)
def test_what_was_sealed_comes_back(value):
    assert atomic.unseal("thing", atomic.seal("thing", value)) == value
    with pytest.raises(ValueError, match="checksum"):
        atomic.unseal("other", atomic.seal("thing", value))


def test_every_flipped_bit_and_every_cut_is_seen():
    data = atomic.seal("thing", {"rows": [1, 2.5, None, True], "name": "Ünï\n"})
    for bit in range(len(data) * 8):
        spoiled = bytearray(data)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r".+"):
            atomic.unseal("thing", bytes(spoiled))
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r".+"):
            atomic.unseal("thing", data[:end])


def test_replacing_leaves_the_new_file_alone_in_the_folder(tmp_path):
    path = tmp_path / "deep" / "file"
    atomic.replace(path, b"old")
    atomic.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_publishing_keeps_what_was_there_first(tmp_path, monkeypatch):
    path = tmp_path / "file"
    assert atomic.publish(path, b"first")
    assert not atomic.publish(path, b"second")

    def no_links(*names):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert not atomic.publish(path, b"third")
    assert atomic.publish(tmp_path / "other", b"fourth")
    assert (path.read_bytes(), (tmp_path / "other").read_bytes()) == (b"first", b"fourth")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, code, where):
    path = tmp_path / "file"
    atomic.replace(path, b"old")

    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, where, fail)
    with pytest.raises(OSError if code == errno.EIO else UserError, match=r"error|free at least 3 MB"):
        atomic.replace(path, b"n" * 2_500_000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _publish(path: Path, gate: object, won: object) -> None:
    gate.wait()
    mine = f"{os.getpid()}" * 1000
    won.put((mine, atomic.publish(path, mine.encode())))


def test_of_many_writers_exactly_one_is_told_that_it_won(tmp_path):
    processes = multiprocessing.get_context("fork")
    gate, won = processes.Barrier(6), processes.Queue()
    racers = [processes.Process(target=_publish, args=(tmp_path / "file", gate, won)) for _ in range(6)]
    for racer in racers:
        racer.start()
    said = [won.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join()
    assert [text for text, first in said if first] == [(tmp_path / "file").read_text()]


def _hold(folder: Path, log: Path, turns: int) -> None:
    for _ in range(turns):
        with atomic.locked(folder, alone=True):
            log.write_text(str(int(log.read_text()) + 1))


def test_a_folder_held_alone_is_held_by_one(tmp_path):
    log = tmp_path / "count"
    log.write_text("0")
    processes = multiprocessing.get_context("fork")
    holders = [processes.Process(target=_hold, args=(tmp_path, log, 50)) for _ in range(4)]
    for holder in holders:
        holder.start()
    for holder in holders:
        holder.join()
    assert log.read_text() == "200"
    with atomic.locked(tmp_path, alone=False), atomic.locked(tmp_path, alone=False):
        pass


def _write_half(path):
    with atomic.replacing(path) as scratch:
        scratch.write_text("half")
        raise RuntimeError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        _write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_ends_takes_the_place_of_the_old_file(tmp_path):
    path = tmp_path / "value"
    path.write_text("old")
    with atomic.replacing(path) as scratch:
        scratch.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
