import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import UserError
from limbeck.shelf import Shelf


def step(text: str = "done", calls: list[Path] | None = None) -> Any:
    def make(place: Path) -> None:
        if calls is not None:
            calls.append(place)
        (place / "deep").mkdir()
        (place / "deep" / "weights").write_text(text)
        (place / "said.json").write_text("{}")

    return make


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.name.startswith(".tmp"))


def test_a_finished_step_is_found_again_and_not_made_again(tmp_path: Path) -> None:
    shelf, calls = Shelf(tmp_path), list[Path]()
    assert not shelf.has("students", "k1")
    for _ in range(3):
        place = shelf.get("students", "k1", step(calls=calls))
        assert place == shelf.place("students", "k1") == tmp_path / "students" / "k1"
        assert (place / "deep" / "weights").read_text() == "done"
    assert len(calls) == 1
    assert shelf.has("students", "k1")
    assert Shelf(tmp_path).has("students", "k1")
    assert not shelf.has("teachers", "k1")


def test_nobody_sees_a_step_before_it_is_finished(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)

    def make(place: Path) -> None:
        step()(place)
        assert not shelf.has("students", "k1")
        assert not shelf.place("students", "k1").exists()

    shelf.get("students", "k1", make)


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError("no"), RuntimeError("ours")])
def test_a_step_that_stops_half_way_is_not_there_and_the_next_begins_afresh(tmp_path: Path, error: Any) -> None:
    shelf = Shelf(tmp_path)

    def stops(place: Path) -> None:
        (place / "half").write_text("half")
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        shelf.get("students", "k1", stops)
    assert not shelf.has("students", "k1")
    place = shelf.get("students", "k1", step())
    assert not (place / "half").exists()
    assert left(tmp_path) == []


def test_what_another_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    ghost = tmp_path / "students" / ".tmp.k1"
    other = tmp_path / "students" / ".tmp.k12"
    for folder in (ghost, other):
        folder.mkdir(parents=True)
        (folder / "deeper").mkdir(parents=True)
        (folder / "half").write_text("half")
    place = shelf.get("students", "k1", step())
    assert not ghost.exists()
    assert sorted(path.name for path in place.iterdir()) == ["deep", "manifest.json", "said.json", "seconds.json"]
    assert other.exists()  # of another step, which may be running


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "added", "no manifest"])
def test_a_damaged_step_is_made_again(tmp_path: Path, damage: str) -> None:
    shelf, calls = Shelf(tmp_path), list[Path]()
    file = shelf.get("students", "k1", step(calls=calls)) / "deep" / "weights"
    if damage == "flipped":
        file.write_text("dome")
    elif damage == "cut":
        file.write_text("don")
    elif damage == "gone":
        file.unlink()
    elif damage == "added":
        (file.parent / "more").write_text("more")
    else:
        manifest = [p for p in file.parents[1].iterdir() if p.name not in ("deep", "said.json", "seconds.json")]
        assert len(manifest) == 1
        manifest[0].unlink()
    made_again = damage != "added" or not shelf.has("students", "k1")
    place = shelf.get("students", "k1", step(calls=calls))
    assert len(calls) == 1 + made_again
    assert (place / "deep" / "weights").read_text() == "done"
    assert shelf.has("students", "k1")


def test_a_dropped_step_is_made_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.get("students", "k1", step("before"))
    shelf.drop("students", "k1")
    assert not shelf.has("students", "k1")
    shelf.drop("students", "k1")  # what is not there is dropped already
    assert (shelf.get("students", "k1", step("after")) / "deep" / "weights").read_text() == "after"


def test_a_full_disk_is_said_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    def full(place: Path) -> None:
        (place / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"the disk is full while writing .*k1; free at least"):
        Shelf(tmp_path).get("students", "k1", full)
    assert left(tmp_path) == []


def test_other_errors_of_the_system_are_not_dressed_up(tmp_path: Path) -> None:
    def refused(place: Path) -> None:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        Shelf(tmp_path).get("students", "k1", refused)
    assert left(tmp_path) == []


SCRIPT = """
import sys, time
from pathlib import Path
from limbeck.progress import Teller
from limbeck.shelf import Shelf

root, seconds = Path(sys.argv[1]), float(sys.argv[2])


def make(place):
    with (root / "makers").open("a") as makers:
        makers.write("one\\n")
    (place / "half").write_text("half")
    time.sleep(seconds)
    (place / "half").rename(place / "whole")


print(Shelf(root, Teller(quiet=False)).get("students", "k1", make))
"""


def other_process(root: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(root), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def begun(root: Path) -> None:
    until = time.monotonic() + 60
    while not list(root.glob("students/.tmp.k1/half")) and time.monotonic() < until:
        time.sleep(0.01)


def test_of_two_processes_one_makes_the_step_and_the_other_waits_and_finds_it(tmp_path: Path) -> None:
    first = other_process(tmp_path, 3.0)
    begun(tmp_path)
    second = other_process(tmp_path, 0.0)
    (found, said), (made, nothing) = second.communicate(timeout=60), first.communicate(timeout=60)
    assert (found, first.returncode, second.returncode) == (made, 0, 0)
    assert said == "  waiting for another process, which is at the same step (students k1)\n"
    assert nothing == ""
    assert (tmp_path / "makers").read_text() == "one\n"
    assert Shelf(tmp_path).has("students", "k1")
    assert left(tmp_path) == []


def test_a_killed_process_hands_its_step_to_the_one_that_waits(tmp_path: Path) -> None:
    first = other_process(tmp_path, 600.0)
    begun(tmp_path)
    second = other_process(tmp_path, 0.0)
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    first.send_signal(signal.SIGKILL)
    assert second.wait(timeout=60) == 0
    first.communicate()
    second.communicate()
    assert (tmp_path / "students" / "k1" / "whole").exists()
    assert (tmp_path / "makers").read_text() == "one\none\n"
    assert left(tmp_path) == []


def test_a_step_remembers_how_long_it_took_and_counts_once(tmp_path: Path) -> None:
    def slow(place: Path) -> None:
        time.sleep(0.2)
        shelf.get("inner", "k2", lambda _: time.sleep(0.3))

    shelf = Shelf(tmp_path)
    for _ in range(2):
        shelf.get("students", "k1", slow)
    assert 0.5 <= shelf.spent <= shelf.made
    again = Shelf(tmp_path)
    for _ in range(2):
        again.get("students", "k1", slow)
    assert (again.spent, again.made) == (shelf.spent, 0.0)
    again.get("inner", "k2", slow)
    assert again.spent > shelf.spent + 0.3


def test_what_is_told_of_a_step_kept_elsewhere_stays_as_first_told(tmp_path: Path) -> None:
    Shelf(tmp_path).took("rows", "k1", 12.5)
    shelf = Shelf(tmp_path)
    shelf.took("rows", "k1", 0.1)
    assert shelf.spent == 12.5


def test_a_step_that_another_process_finished_between_look_and_claim_leaves_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    shelf.get("steps", "a", lambda place: (place / "made").touch())
    looks = iter([False, True, True])
    monkeypatch.setattr(Shelf, "has", lambda *_: next(looks))
    shelf.get("steps", "a", lambda _: pytest.fail("it was there"))
    assert [one.name for one in (tmp_path / "steps").iterdir()] == ["a"]
