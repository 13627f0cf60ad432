"""Finished steps on disk: found again by fingerprint, whole or absent, and checked before they are believed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from limbeck import artifact, atomic
from limbeck.errors import LimbeckError
from limbeck.progress import Teller

SECONDS = "seconds.json"


class Shelf:
    """A folder of finished steps.

    Several processes may share it: of two that want the same step one makes it, and the other waits.

    Args:
        root: `<root>/<kind>/<key>/` holds one step's files, how long they took, and a manifest of their hashes.
        teller: hears of waiting.
    """

    def __init__(self, root: Path, teller: Teller | None = None) -> None:
        self.root = root
        self.teller = teller or Teller()
        self._spent: dict[tuple[str, str], float] = {}
        self._made, self._depth = 0.0, 0

    @property
    def spent(self) -> float:
        """Seconds that the steps asked for here took when they were made, by whomever; each counts once.

        A step that another asks for while it is made is part of that one.
        """
        return sum(self._spent.values())

    @property
    def made(self) -> float:
        """Seconds of those that were made here and now."""
        return self._made

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

        A killed `make` leaves only an unnamed folder, which the next attempt empties.
        """
        place = self.place(kind, key)
        desk = place.with_name(f".tmp.{key}")
        while not self.has(kind, key):
            with atomic.claimed(desk, lambda: self._waits(kind, key)) as ours:
                if ours and not self.has(kind, key):
                    self._make(desk, place, make)
                    break
                if ours:  # another process finished between our look and our claim: what we claimed is an empty folder
                    shutil.rmtree(desk, ignore_errors=True)
        if not self._depth:
            said = place / SECONDS
            self._spent[kind, key] = float(json.loads(said.read_bytes())) if said.exists() else 0.0
        return place

    def took(self, kind: str, key: str, seconds: float) -> None:
        """Keep how long something took whose outcome is kept elsewhere; what was said first stays."""
        self.get(kind, key, lambda place: note_seconds(place, seconds))

    def _waits(self, kind: str, key: str) -> None:
        self.teller.say(f"  waiting for another process, which is at the same step ({kind} {key[:8]})")

    def _make(self, desk: Path, place: Path, make: Callable[[Path], None]) -> None:
        for left in desk.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        start = time.monotonic()
        self._depth += 1
        try:
            make(desk)
            if not (desk / SECONDS).exists():
                note_seconds(desk, time.monotonic() - start)
            artifact.seal(desk)
            atomic.rename(desk, place)
        except OSError as failed:
            shutil.rmtree(desk, ignore_errors=True)
            atomic.explain_full_disk(failed, place)
            raise
        except LimbeckError:
            shutil.rmtree(desk, ignore_errors=True)  # given up on purpose: nobody will go on with it
            raise
        finally:
            self._depth -= 1
        if not self._depth:
            self._made += time.monotonic() - start


def note_seconds(place: Path, seconds: float) -> None:
    """Say how long a step took, where that is more than the time since its last beginning."""
    (place / SECONDS).write_text(json.dumps(seconds), encoding="utf-8")
