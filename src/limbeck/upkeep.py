"""Care of stores: find damage, make room for repairs, forget a person, clean up, and list what there is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limbeck import atomic, ledger
from limbeck.chunk import Chunk, persons
from limbeck.errors import StoreDamaged, UserError
from limbeck.knowledge import Kept, Packed
from limbeck.shard import KEY, SCHEMA, Record, Settings, assemble, fault, read, read_record, rewrite
from limbeck.types import Array

Repair = Literal["relabel", "restore", "finish", "rerun", "none"]


@dataclass(frozen=True)
class Damage:
    """One thing wrong in a store.

    Args:
        path: the file.
        reason: what is wrong with it.
        repair: how it is mended: by labelling `shard` again, by restoring the file from its copy, by
            finishing the labelling, by running the recipe again, or not at all.
        shard: id of the shard it belongs to.
    """

    path: Path
    reason: str
    repair: Repair
    shard: str | None = None

    def __str__(self) -> str:
        ways = {
            "relabel": f"mended by labelling shard {self.shard} again",
            "restore": "mended from its copy",
            "finish": "mended by labelling what is missing",
            "rerun": "mended by running its recipe again, which writes it anew",
            "none": "both copies are gone: delete the store and label again",
        }
        return f"{self.path}: {self.reason} ({ways[self.repair]})"


def verify(folder: Path) -> list[Damage]:
    """Everything flipped, cut short, missing or swapped in a store.

    Raises:
        UserError: there is no store.
    """
    if not ledger.is_store(folder):
        raise UserError(f"there is no store in {folder}; limbeck store list shows those there are")
    shards = folder / ledger.SHARDS
    found = [*_copies(folder, ledger.SETTINGS), *_copies(folder, ledger.FORGOTTEN)]
    if not ledger.tells_origins(folder):
        found.append(Damage(folder / ledger.ORIGINS, "its contents do not match its checksum", "rerun"))
    expected: list[str] = []
    try:
        expected = ledger.read_complete(folder) or []
    except StoreDamaged as damage:
        found.append(Damage(folder / ledger.COMPLETE, _reason(damage, folder / ledger.COMPLETE), "finish"))
    there = {path.stem for path in shards.glob("*.json")}
    found += [Damage(shards / f"{s}.json", "it is missing", "relabel", s) for s in expected if s not in there]
    settings = _settings(folder)
    for shard in sorted(there):
        path = shards / f"{shard}.json"
        try:
            record = read_record(path)
        except StoreDamaged as damage:
            found.append(Damage(path, _reason(damage, path), "relabel", shard))
            continue
        if settings and record.store != settings.fingerprint:
            found.append(Damage(path, "it is of another store", "relabel", shard))
        elif reason := fault(shards, record):
            found.append(Damage(shards / record.file, reason, "relabel", shard))
    return found


def discard(folder: Path, damages: Iterable[Damage]) -> list[str]:
    """Take out what `verify` found, so that labelling again mends it; copies are restored at once.

    Returns:
        The ids of the shards that are to be labelled again.

    Raises:
        StoreDamaged: both copies of a file are gone, so the store cannot be mended.
    """
    damages = list(damages)
    lost = [str(damage) for damage in damages if damage.repair == "none"]
    if lost:
        raise StoreDamaged("\n".join(lost))
    shards = folder / ledger.SHARDS
    shards.mkdir(exist_ok=True)
    with atomic.locked(shards, alone=True):
        for damage in damages:
            if damage.repair == "restore":
                _restore(folder, damage.path.name)
            elif damage.repair == "finish":
                damage.path.unlink(missing_ok=True)
        gone = sorted({damage.shard for damage in damages if damage.shard})
        for shard in gone:
            (shards / f"{shard}.json").unlink(missing_ok=True)
            for path in shards.glob(f"{shard}-*.arrow"):
                path.unlink()
    return gone


@dataclass(frozen=True)
class Forgotten:
    """What forgetting a person changed: rows taken out, and shards written again."""

    rows: int
    shards: int


def holds(folder: Path, user: Any) -> bool:
    """Whether a store that says whose its rows are holds any of a person's; damaged shards are passed over."""
    person, shards = persons([user]), folder / ledger.SHARDS
    for path in sorted(shards.glob("*.json")):
        with suppress(StoreDamaged):
            if np.isin(read(shards, read_record(path))[f"{KEY}.person"].data, person).any():
                return True
    return False


def forget(folder: Path, user: Any) -> Forgotten:
    """Take a person's rows out of a store for good. Killed half-way, it is finished by asking again.

    The person's hash stays on the list of the forgotten, so that no later labelling brings the rows back.

    Args:
        folder: of the store; no other process writes to it meanwhile, as this waits for them.
        user: the raw value that names the person in the rows.

    Raises:
        UserError: the store does not say whose its rows are, or the disk is full.
        StoreDamaged: a shard is damaged; the others are done, and repairing does not bring the rows back.
    """
    settings = ledger.read_settings(folder)
    if not settings.people:
        raise UserError(f"the store in {folder} does not say whose its rows are, so it cannot find a person's")
    person = persons([user])
    shards = folder / ledger.SHARDS
    changed, hurt = [], []
    with atomic.locked(shards, alone=True):
        ledger.write_forgotten(folder, np.union1d(ledger.read_forgotten(folder), person))
        _sweep(shards)  # what a killed run left may hold the person's rows
        for path in sorted(shards.glob("*.json")):
            try:
                record = read_record(path)
                changed.append(_without(shards, settings, record, person))
            except StoreDamaged as damage:
                hurt.append(str(damage))
    if hurt:
        raise StoreDamaged("\n".join(hurt))
    return Forgotten(sum(changed), sum(count > 0 for count in changed))


def _without(shards: Path, settings: Settings, old: Record, person: Array) -> int:
    columns = read(shards, old)
    out = np.isin(columns[f"{KEY}.person"].data, person)
    if not out.any():
        return 0
    left = {name: Packed(column.data[~out], column.dtype) for name, column in columns.items()}
    id, view, people = (left.pop(f"{KEY}.{name}").data for name in ("id", "view", "person"))
    gone = zip(columns[f"{KEY}.id"].data[out].tolist(), columns[f"{KEY}.view"].data[out].tolist(), strict=True)
    rows = Chunk(np.arange(len(id)), id, view, people)
    lost = (*old.forgotten, *gone)
    record, data = assemble(settings, (old.shard, old.input), rows, Kept(left, old.clipped), lost)
    rewrite(shards, old, record, data)
    return int(out.sum())


@dataclass(frozen=True)
class Cleaned:
    """What cleaning removed: files left by killed runs, and how many bytes they held."""

    files: int
    bytes: int


def clean(root: Path) -> Cleaned:
    """Remove what killed runs left in the stores under a folder, which lie there one a folder.

    Whole stores stay: a run whose folder lies anywhere may still find its knowledge here.
    """
    files, weight = 0, 0
    for folder in _stores(root):
        (folder / ledger.SHARDS).mkdir(exist_ok=True)
        with atomic.locked(folder / ledger.SHARDS, alone=True):
            count, size = _sweep(folder / ledger.SHARDS)
        files, weight = files + count, weight + size
    return Cleaned(files, weight)


@dataclass(frozen=True)
class StoreInfo:
    """One store among others.

    Args:
        id: fingerprint of its settings, by custom the folder's name.
        folder: where it lies.
        settings: as it says; none where both copies are damaged.
        rows: in the records that can be read.
        bytes: on disk.
        complete: labelling finished and every shard's record is there.
        problem: what is wrong at first sight; `verify` looks closer.
    """

    id: str
    folder: Path
    settings: Settings | None
    rows: int
    bytes: int
    complete: bool
    problem: str = ""


def list_stores(root: Path) -> list[StoreInfo]:
    """The stores under a folder, by name."""
    return [_info(folder) for folder in _stores(root)]


def _info(folder: Path) -> StoreInfo:
    settings, problem, rows, there, expected = _settings(folder), "", 0, [], None
    try:
        ledger.read_settings(folder)
        expected = ledger.read_complete(folder)
    except UserError as wrong:
        problem = str(wrong)
    for path in sorted((folder / ledger.SHARDS).glob("*.json")):
        try:
            rows += read_record(path).rows
            there.append(path.stem)
        except StoreDamaged as damage:
            problem = problem or str(damage)
    name = settings.fingerprint if settings else folder.name
    return StoreInfo(name, folder, settings, rows, _weight(folder), not problem and expected == there, problem)


def _stores(root: Path) -> list[Path]:
    return sorted(f for f in root.iterdir() if ledger.is_store(f)) if root.is_dir() else []


def _weight(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sweep(shards: Path) -> tuple[int, int]:
    """Unlink unfinished writes, of the store too, and data that no record names; how many, and their bytes."""
    kept, unclear = set(), set()
    for path in shards.glob("*.json"):
        try:
            kept.add(read_record(path).file)
        except StoreDamaged:
            unclear.add(path.stem)  # which data is its own cannot be told: left for repair
    stray = [p for p in shards.glob("*.arrow") if p.name not in kept and p.name.split("-")[0] not in unclear]
    gone = [*stray, *(p for p in (*shards.iterdir(), *shards.parent.iterdir()) if atomic.is_leftover(p))]
    weight = sum(path.stat().st_size for path in gone)
    for path in gone:
        path.unlink()
    return len(gone), weight


def _reason(damage: StoreDamaged, path: Path) -> str:
    return str(damage).removeprefix(f"{path}: ").partition("; run: ")[0]


def _settings(folder: Path) -> Settings | None:
    """What the copies say that are whole; where they differ, the one its shards name."""
    whole = ledger.read_copies(folder, ledger.SETTINGS)
    said = [Settings.of(copy) for copy in whole.values() if copy["schema"] == SCHEMA]
    if len({one.fingerprint for one in said}) > 1:
        named = {_store_of(path) for path in (folder / ledger.SHARDS).glob("*.json")}
        said = [one for one in said if one.fingerprint in named] or said
    return said[0] if said else None


def _store_of(path: Path) -> str | None:
    """The store that a record says it belongs to; none where it is damaged."""
    try:
        return read_record(path).store
    except StoreDamaged:
        return None


def _copies(folder: Path, names: tuple[str, str]) -> list[Damage]:
    whole = ledger.read_copies(folder, names)
    broken = [name for name in names if name not in whole]
    repair: Repair = "restore" if whole else "none"
    found = [
        Damage(
            folder / n,
            "it is missing" if not (folder / n).exists() else "its contents do not match its checksum",
            repair,
        )
        for n in broken
    ]
    if len(whole) == 2 and whole[names[0]] != whole[names[1]]:
        right = _settings(folder)
        wrong = names[1]
        if names == ledger.SETTINGS and right and ledger.read_settings(folder, names[0]) != right:
            wrong = names[0]
        found.append(Damage(folder / wrong, "it differs from its copy", "restore"))
    return found


def _restore(folder: Path, name: str) -> None:
    if name in ledger.FORGOTTEN:
        ledger.write_forgotten(folder, ledger.people(ledger.read_copies(folder, ledger.FORGOTTEN).values()))
    elif settings := _settings(folder):
        ledger.write_settings(folder, settings)
