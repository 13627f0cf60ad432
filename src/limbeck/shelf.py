"""Finished steps on disk: found again by fingerprint, whole or absent, and checked before they are believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from limbeck import artifact, atomic
from limbeck.errors import LimbeckError


class Shelf:
    """A folder of finished steps.

    Args:
        root: `<root>/<kind>/<key>/` holds one step's files and a manifest of their hashes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, kind: str, key: str) -> Path:
        """Where a step's files are, or will be."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the step is there and every file matches its hash."""
        place = self.place(kind, key)
        if not place.is_dir():
            return False
        try:
            artifact.verify(place)
        except LimbeckError:
            return False
        return True

    def drop(self, kind: str, key: str) -> None:
        """Take a step away, so that it is done again."""
        shutil.rmtree(self.place(kind, key), ignore_errors=True)

    def get(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The step's folder; `make` fills an empty one if it is not there.

        A killed `make` leaves only an unnamed folder, which the next attempt removes.
        """
        place = self.place(kind, key)
        if self.has(kind, key):
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(f".tmp.{key}.*"):
            if not _lives(left.name.rsplit(".", 1)[-1]):
                shutil.rmtree(left, ignore_errors=True)
        desk = place.parent / f".tmp.{key}.{os.getpid()}"
        desk.mkdir()
        try:
            make(desk)
            artifact.seal(desk)
            atomic.rename(desk, place)
        except OSError as failed:
            shutil.rmtree(desk, ignore_errors=True)
            atomic.explain_full_disk(failed, place)
            raise
        return place


def _lives(process: str) -> bool:
    """Whether a process of this number is at work on this machine: what it is writing is not ours to remove."""
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
