"""The small files of a store: its settings and its forgotten people, each kept twice, and which shards it finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from limbeck import atomic
from limbeck.errors import StoreDamaged, UserError
from limbeck.shard import SCHEMA, Settings
from limbeck.types import Array

SETTINGS = ("store.json", "store.backup.json")
FORGOTTEN = ("forgotten.json", "forgotten.backup.json")
COMPLETE, ORIGINS, SHARDS = "complete.json", "origins.json", "shards"


def begin(folder: Path, settings: Settings, origin: Mapping[str, Any]) -> None:
    """Write a store without rows; where one of the same settings is, the origin joins those it has.

    Raises:
        UserError: a store of other settings is there, or the disk is full.
    """
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    if (folder / SETTINGS[0]).exists():
        if read_settings(folder) != settings:
            raise UserError(f"{folder} is a store of other settings; name another folder")
    else:
        # Killed here before, a run may have left one copy of the list, or both.
        write_forgotten(folder, read_forgotten(folder) if forgets(folder) else people([]))
        _write_twice(folder, SETTINGS, {"schema": SCHEMA, **settings.facts()})
    note_origin(folder, origin)


def read_origins(folder: Path) -> list[dict[str, Any]]:
    """What leads back to the teacher and to every set of rows it was asked about; none where nothing says so.

    A damaged list says nothing: `verify` tells of it, and the next run of the recipe writes it anew.
    """
    try:
        said: list[dict[str, Any]] = atomic.unseal(ORIGINS, (folder / ORIGINS).read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    return said


def tells_origins(folder: Path) -> bool:
    """Whether the list of origins, where there is one, is as it was written."""
    try:
        atomic.unseal(ORIGINS, (folder / ORIGINS).read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


def note_origin(folder: Path, origin: Mapping[str, Any]) -> None:
    """Add an origin behind those that are there; one of the same `rows` is brought up to date instead."""
    with atomic.locked(folder / SHARDS, alone=True):
        for left in folder.glob(f"{ORIGINS}.tmp.*"):  # by one that was killed here: nobody else writes it now
            left.unlink()
        known = read_origins(folder)
        same = next((one for one in known if one.get("rows") == origin.get("rows")), None)
        if same is not None and {**same, **origin} == same:
            return
        if same is None:
            known.append(dict(origin))
        else:
            same.update(origin)
        atomic.replace(folder / ORIGINS, atomic.seal(ORIGINS, known))


def is_store(folder: Path) -> bool:
    """Whether a folder is a store, be it damaged."""
    return any((folder / name).is_file() for name in SETTINGS)


def read_settings(folder: Path, name: str = SETTINGS[0]) -> Settings:
    """The settings in one of the two copies.

    Raises:
        StoreDamaged: it is not as it was written.
        UserError: there is no store, or one of another version of Limbeck.
    """
    if not is_store(folder):
        raise UserError(f"there is no store in {folder}; limbeck store list shows those there are")
    said = _read(folder / name, SETTINGS[0])
    if said["schema"] != SCHEMA:
        raise UserError(f"the store in {folder} has format {said['schema']}, this Limbeck reads {SCHEMA}; label again")
    return Settings.of(said)


def write_settings(folder: Path, settings: Settings) -> None:
    """Both copies."""
    _write_twice(folder, SETTINGS, {"schema": SCHEMA, **settings.facts()})


def read_forgotten(folder: Path) -> Array:
    """Who is forgotten: sorted uint64, as `persons` counts them.

    The list only grows and its backup is written first, so where a killed run left two lists the
    answer is both, and where it left the backup alone that is the answer.

    Raises:
        StoreDamaged: one of the copies is not as it was written.
    """
    first, backup = FORGOTTEN
    names = (first, backup) if (folder / first).exists() else (backup,)
    return people(_read(folder / name, first) for name in names)


def forgets(folder: Path) -> bool:
    """Whether a list of forgotten people lies here; the folder of all stores has one once anybody asked."""
    return any((folder / name).exists() for name in FORGOTTEN)


def people(lists: Iterable[list[str]]) -> Array:
    """The people of several lists, sorted uint64."""
    return np.array(sorted({int(text, 16) for one in lists for text in one}), np.uint64)


def write_forgotten(folder: Path, forgotten: Array) -> None:
    """Both copies, one after the other."""
    _write_twice(folder, FORGOTTEN, [f"{int(person):016x}" for person in forgotten])


def read_held(folder: Path, names: tuple[str, str]) -> dict[str, list[str]]:
    """Person -> what held rows of theirs, from whichever copies are whole."""
    answer: dict[str, list[str]] = {}
    for copy in read_copies(folder, names).values():
        for person, marks in copy.items():
            answer[person] = sorted({*answer.get(person, []), *marks})
    return answer


def write_held(folder: Path, names: tuple[str, str], held: Mapping[str, list[str]]) -> None:
    """Both copies."""
    _write_twice(folder, names, dict(held))


def read_complete(folder: Path) -> list[str] | None:
    """The ids of all shards of the finished store; none where labelling never finished.

    Raises:
        StoreDamaged: the file is not as it was written.
    """
    return _read(folder / COMPLETE, COMPLETE) if (folder / COMPLETE).exists() else None


def write_complete(folder: Path, shards: Iterable[str]) -> None:
    """Say that every row asked for is there."""
    atomic.replace(folder / COMPLETE, atomic.seal(COMPLETE, sorted(shards)))


def read_copies(folder: Path, names: tuple[str, str]) -> dict[str, Any]:
    """Name -> contents of the copies that are whole."""
    answer = {}
    for name in names:
        try:
            answer[name] = _read(folder / name, names[0])
        except StoreDamaged:
            continue
    return answer


def _write_twice(folder: Path, names: tuple[str, str], value: Any) -> None:
    for name in reversed(names):  # the first of the names, once there, says that both are
        atomic.replace(folder / name, atomic.seal(names[0], value))


def _read(path: Path, what: str) -> Any:
    try:
        return atomic.unseal(what, path.read_bytes())
    except FileNotFoundError:
        reason = "it is missing"
    except ValueError as wrong:
        reason = str(wrong)
    raise StoreDamaged(f"{path}: {reason}; run: limbeck store repair {path.parent}")
