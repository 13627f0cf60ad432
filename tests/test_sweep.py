"""What killed processes left goes; what anybody may still be at stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from limbeck import atomic
from limbeck.cli import main
from limbeck.forgetting import note_run
from limbeck.shelf import Shelf
from limbeck.sweep import IDLE, sweep
from limbeck.upkeep import Cleaned


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "out" / "artifact").mkdir(parents=True)
    return tmp_path / "out"


def gone() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        return ended.pid


def lies(path: Path, *, seconds: float) -> Path:
    """A leftover that nobody touched for so long."""
    path.mkdir(parents=True)
    (path / "half").write_bytes(b"12345")
    for each in (path / "half", path):
        os.utime(each, (time.time() - seconds,) * 2)
    return path


def test_steps_of_killed_processes_go_and_those_at_work_stay(out: Path, tmp_path: Path) -> None:
    shelves = [Shelf(out / "steps"), Shelf(tmp_path / "cache")]
    for shelf in shelves:
        lies(shelf.root / "students" / ".tmp.killed", seconds=0)
        lies(shelf.root / "students-unfinished" / "killed", seconds=10 * IDLE)  # checkpoints, to go on from

    def make(place: Path) -> None:
        (place / "half").write_text("at work")
        assert sweep([out]) == Cleaned(2, 10)
        assert sweep([out]) == Cleaned(0, 0)
        assert (place / "half").read_text() == "at work"

    shelves[0].get("students", "live", make)
    assert shelves[0].has("students", "live")
    for shelf in shelves:
        assert not (shelf.root / "students" / ".tmp.killed").exists()
        assert (shelf.root / "students-unfinished" / "killed" / "half").exists()


def test_unfinished_writes_go_once_nobody_can_be_at_them(out: Path) -> None:
    dead, alive = gone(), os.getpid()
    (out / "artifact" / "small").mkdir()
    old = lies(out / "artifact" / f"small{atomic.MARK}{dead}.ab12", seconds=2 * IDLE)
    kept = [
        lies(out / "artifact" / f"small{atomic.MARK}{alive}.ab12", seconds=2 * IDLE),
        lies(out / "artifact" / f"small{atomic.MARK}{dead}.cd34", seconds=IDLE / 2),
        lies(out / "artifact" / f"large{atomic.MARK}{dead}.ab12", seconds=2 * IDLE),  # all there is of it, perhaps
        lies(out / "artifact" / f"small{atomic.MARK}mine", seconds=2 * IDLE),
    ]
    file = out / f"report.json{atomic.MARK}{dead}.ab12"
    file.write_bytes(b"123")
    os.utime(file, (time.time() - 2 * IDLE,) * 2)
    assert sweep([out]) == Cleaned(2, 8)
    assert not old.exists()
    assert not file.exists()
    assert all(path.exists() for path in kept)


def test_the_command_sweeps_every_run_of_the_cache(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lies(out / "steps" / "judged" / ".tmp.killed", seconds=0)
    note_run(out)
    assert main(["store", "clean"]) == 0
    assert capsys.readouterr().out == "1 leftover file removed, 5 B\n"
    assert not (out / "steps" / "judged" / ".tmp.killed").exists()
