"""A person who wants to be forgotten: taken out of every store, and where else something of theirs may lie."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import atomic, ledger, report, upkeep
from limbeck.cache import cache_folder
from limbeck.chunk import persons
from limbeck.errors import UserError
from limbeck.progress import Teller

HELD = ("held.json", "held.backup.json")
"""Of everybody who was forgotten: the fingerprints of the stores that held rows of theirs, and of those rows' sources.

It is what lets a second request, or one after a store is gone, name the same artifacts as the first.
"""
RUNS = "runs.json"


@dataclass(frozen=True)
class Farewell:
    """What was done for a person, and what is left to those who own the files.

    Args:
        stores: folder -> what was taken out there, where anything was.
        without_people: stores that do not say whose their rows are.
        artifacts: whose students had learnt from the person.
        shown: files of runs that show raw rows with the person's name in them.
        steps: folders of models that had learnt from the person and, of their runs, of unfinished ones and of
            judgements, which tell answers by row; no later run finds what is theirs, and what else is in the
            latter a run makes again.
        rows: converted copies of the owner's files, with the person's name in them.
        again: folders of the runs to do again, so that artifacts and pages are made anew.
        named: where people's names stand, file and column, as far as the stores know.
    """

    stores: dict[Path, upkeep.Forgotten]
    without_people: tuple[Path, ...]
    artifacts: tuple[Path, ...]
    shown: tuple[Path, ...]
    steps: tuple[Path, ...]
    rows: tuple[Path, ...]
    again: tuple[Path, ...]
    named: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there was anything of them."""
        return any((self.stores, self.artifacts, self.shown, self.steps, self.rows))


def note_run(out: Path) -> None:
    """Remember where a run lies, so that what it holds of a person can be found."""
    root = cache_folder()
    with atomic.locked(root, alone=True):
        known = known_runs()
        if out.resolve() not in known:
            there = [str(folder) for folder in (*known, out.resolve()) if folder.is_dir()]
            atomic.replace(root / RUNS, json.dumps(there, indent=1).encode())


def forget(user: Any, runs: Path, teller: Teller | None = None) -> Farewell:
    """Take a person out of every store of the cache, and find what else there is of them.

    Killed half-way, it is finished by asking again; asked again, it finds the same artifacts and files.

    Args:
        user: the raw value that names the person in the rows.
        runs: a folder of runs to look at, besides those that this cache knows.
        teller: where progress goes.

    Raises:
        UserError: the disk is full.
        StoreDamaged: a shard is damaged; the others are done.
    """
    root = cache_folder("stores")
    person = persons([user])
    with atomic.locked(root, alone=True):  # first the list that every later run reads
        known = ledger.read_forgotten(root) if ledger.forgets(root) else person
        ledger.write_forgotten(root, np.union1d(known, person))
    for file in (root.parent / "pictures").glob("*.arrow"):
        file.unlink()  # digests of theirs among others', which do not say whose they are; the next run looks again
    found = upkeep.list_stores(root)
    with_people = [info for info in found if info.settings is not None and info.settings.people]
    changed = {}
    with (teller or Teller()).bar("reading stores", len(with_people), "stores") as advance:
        for info in with_people:
            if upkeep.holds(info.folder, user):
                sources = [str(one["source"]) for one in ledger.read_origins(info.folder) if "source" in one]
                _note_held(root, person, {info.id, info.settings.source if info.settings else "", *sources})
            done = upkeep.forget(info.folder, user)
            if done.rows:
                changed[info.folder] = done
            advance(1)
    folders = sorted({*known_runs(), *_runs(runs)})
    held = ledger.read_held(root, HELD).get(_hex(person), [])
    said = _farewell(str(user), held, folders, changed, [info.folder for info in found if info not in with_people])
    return replace(said, named=tuple(sorted({place for info in with_people for place in _named(info.folder)})))


def _named(store: Path) -> Iterator[str]:
    """Where the people of a store have their names from."""
    for origin in ledger.read_origins(store):
        data = origin.get("recipe", {}).get("data", {})
        if data.get("pack"):
            yield f"pack {data['pack']}"
        elif "user" in data.get("roles", {}):
            yield f"column '{data['roles']['user']}' of {data.get('path')}"


def _farewell(
    user: str, held: list[str], runs: list[Path], changed: dict[Path, upkeep.Forgotten], without: list[Path]
) -> Farewell:
    artifacts = [place for run in runs for place in _artifacts(run, held)]
    shown = [run / name for run in runs for name in _shown(run, user)]
    taught = [place for run in runs for place in _taught(run / "steps", held)]
    cached = [place for kind in ("teachers", "baselines") for place in _learnt(cache_folder() / kind, held)]
    again = {run for run in runs if any(place.is_relative_to(run) for place in (*artifacts, *shown))}
    rows = [file for file in sorted(cache_folder("rows").glob("*.arrow")) if _names(file, user)]
    return Farewell(
        stores=changed,
        without_people=tuple(without),
        artifacts=tuple(artifacts),
        shown=tuple(shown),
        steps=(*taught, *cached),
        rows=tuple(rows),
        again=tuple(sorted(again)),
    )


def outdated(run: Path) -> list[Path]:
    """The artifacts of a run whose students had learnt from anybody who was forgotten."""
    held = ledger.read_held(cache_folder("stores"), HELD)
    return _artifacts(run, {mark for marks in held.values() for mark in marks})


def known_runs() -> list[Path]:
    """The folders of the runs that used this cache, be they there or not."""
    try:
        return [Path(text) for text in json.loads((cache_folder() / RUNS).read_bytes())]
    except (FileNotFoundError, ValueError):
        return []


def _runs(folder: Path) -> Iterator[Path]:
    """Folders of runs, at any depth."""
    found = {file.parent for file in folder.rglob("run.json")} if folder.is_dir() else set()
    found |= {file.parents[2] for file in folder.rglob("artifact/*/fingerprints.json")} if folder.is_dir() else set()
    return (place.resolve() for place in found)


def _note_held(root: Path, person: Any, marks: Iterable[str]) -> None:
    with atomic.locked(root, alone=True):
        held = ledger.read_held(root, HELD)
        held[_hex(person)] = sorted({*held.get(_hex(person), []), *marks} - {""})
        ledger.write_held(root, HELD, held)


def _hex(person: Any) -> str:
    return f"{int(person[0]):016x}"


def _artifacts(run: Path, held: Collection[str]) -> list[Path]:
    files = sorted(run.glob("artifact/*/fingerprints.json"))
    return [file.parent for file in files if json.loads(file.read_text(encoding="utf-8")).get("store") in held]


def _learnt(models: Path, held: Collection[str]) -> list[Path]:
    """The trained models in a folder that learnt from rows of these sources."""
    files = sorted(models.glob("[!.]*/training.json"))
    return [file.parent for file in files if json.loads(file.read_text(encoding="utf-8")).get("source") in held]


def _taught(steps: Path, held: Collection[str]) -> list[Path]:
    """What a run keeps of models that learnt from rows of these sources: the folder of all, where all did."""
    models = steps / "students"
    learnt = _learnt(models, held)
    if not learnt:
        return []
    whole = len(learnt) == sum(place.is_dir() for place in models.glob("[!.]*"))
    beside = [steps / kind for kind in ("students-unfinished", "judged")]
    return [*([models] if whole else learnt), *(place for place in beside if place.is_dir())]


def _shown(run: Path, user: str) -> list[str]:
    """The pages with raw rows, where a cell of theirs is the person's name, or where that cannot be told."""
    try:
        cells = [cell for one in report.load_rows(run) for cell in one.get("row", {}).values()]
        there = any(str(cell) == user for cell in cells)
    except UserError:
        there = True
    return [name for name in ("rows.json", "report.html") if there and (run / name).exists()]


def _names(file: Path, user: str) -> bool:
    """Whether a cell of a table is the person's name."""
    with pa.memory_map(str(file)) as opened:
        return any(_holds(column, user) for column in pa.ipc.open_file(opened).read_all().columns)


def _holds(column: pa.ChunkedArray, user: str) -> bool:
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if pa.types.is_integer(plain.type):
        plain = pc.cast(plain, pa.string())
    if not (pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type)):
        return False
    return bool(pc.any(pc.equal(plain, pa.scalar(user, plain.type))).as_py())
