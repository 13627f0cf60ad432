"""What killed processes left half done, taken away once nobody can be at work on it any more."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from limbeck import atomic
from limbeck.cache import cache_folder
from limbeck.upkeep import Cleaned

IDLE = 3600.0
"""Seconds that an unfinished write has to lie still: whoever writes it may be a process of another machine."""


def sweep(runs: Iterable[Path]) -> Cleaned:
    """Take away what killed processes left in the cache and in the folders of runs; stores are swept by themselves.

    A step half done (`.tmp.<key>`) is locked by whoever is at it, and so goes as soon as nobody holds it; checkpoints
    lie elsewhere and stay, for the same command goes on from them. An unfinished write (`<name>.tmp.<process>`) goes
    once its process is gone and it has lain still for an hour; a folder that waits for its name only where that name
    is taken, for it may be all there is of an artifact.
    """
    files, weight = 0, 0
    for folder in _folders(runs):
        for path in sorted(folder.iterdir()):
            if atomic.is_leftover(path):
                count, size = _taken(path)
                files, weight = files + count, weight + size
    return Cleaned(files, weight)


def _folders(runs: Iterable[Path]) -> Iterator[Path]:
    for root in (cache_folder(), *(run / "steps" for run in runs)):
        if root.is_dir():
            yield from (root, *(kind for kind in sorted(root.iterdir()) if kind.is_dir() and kind.name != "stores"))
    yield from (place for run in runs for place in (run, run / "artifact") if place.is_dir())


def _taken(path: Path) -> tuple[int, int]:
    """How many files were removed, and their bytes."""
    if not path.name.startswith(atomic.MARK):
        return _removed(path) if _is_over(path) else (0, 0)
    found = (0, 0)
    with suppress(OSError), atomic.locked(path, alone=True, waits=_busy) as handle:
        if handle is not None:
            found = _removed(path)
    return found


def _busy() -> None:
    raise BlockingIOError


def _is_over(path: Path) -> bool:
    final, _, owner = path.name.rpartition(atomic.MARK)
    if path.is_dir() and not path.with_name(final).exists():
        return False
    number = owner.partition(".")[0]
    if not number.isdecimal() or _lives(int(number)):
        return False
    try:
        last = max(one.stat().st_mtime for one in (path, *path.rglob("*")))
    except FileNotFoundError:
        return False  # somebody is at it just now
    return time.time() - last > IDLE


def _lives(process: int) -> bool:
    if sys.platform == "win32":
        return True  # there is no asking without ending it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _removed(path: Path) -> tuple[int, int]:
    inside = [one for one in (path, *path.rglob("*")) if one.is_file() and not one.is_symlink()]
    weight = sum(one.stat().st_size for one in inside)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return len(inside), weight
