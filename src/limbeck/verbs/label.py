"""Ask a teacher about every row, once, and keep the answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from limbeck import atomic, ledger
from limbeck.errors import UserError
from limbeck.knowledge import Knowledge
from limbeck.progress import Teller
from limbeck.store import Chunk, Settings, Store, chunks, persons
from limbeck.types import Array, Predictor, Rows, Signals

SHARD_BYTES = 32_000_000
SHARD_ROWS = 4096
WAITS = "  waiting for another process, which is labelling the same rows or others of the same store"


@dataclass(frozen=True)
class Labelling:
    """How a teacher is asked.

    Args:
        knowledge: what is kept of its answers.
        batch: rows it answers at once.
        origin: JSON that leads back to the teacher and the rows, for repairs.
        teller: where progress goes.
    """

    knowledge: Knowledge = field(default_factory=Knowledge)
    batch: int = 128
    origin: Mapping[str, Any] = field(default_factory=dict)
    teller: Teller = field(default_factory=Teller)


def label(teacher: Predictor, rows: Rows, root: Path, how: Labelling | None = None) -> Store:
    """Fill a store with a teacher's signals for rows; rows that are there already are not asked again.

    Of several processes one labels at a time, so that nobody is asked twice.

    Args:
        teacher: any predictor.
        rows: what it is asked about; those with a `user` role can be forgotten person by person.
        root: the folder of stores; the store lies in it under its fingerprint.
        how: what is kept, and how the teacher is asked.

    Returns:
        The open store, complete for these rows.

    Raises:
        UserError: there are no rows, or signals that cannot be kept.
    """
    how = how or Labelling()
    if not len(rows):
        raise UserError("there are no rows to label")
    origin = {**how.origin, "rows": rows.fingerprint}
    done = _finished(teacher, rows, root, how.knowledge)
    if done is not None:
        ledger.note_origin(done.folder, origin)
        return done
    settings, first = settings_for(teacher, rows, how.knowledge)
    each = sum(np.asarray(value).nbytes for value in first.values())
    size = int(np.clip(SHARD_BYTES // max(each, 1), how.batch, SHARD_ROWS))
    wanted = chunks(rows.key, size=size, person=_persons(rows, settings))
    folder = root / settings.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.locked(folder, alone=True, waits=lambda: how.teller.say(WAITS)):
        store = Store.create(folder, settings, origin=origin)
        _fill(store, teacher, rows, wanted, how)
    return store


def _fill(store: Store, teacher: Predictor, rows: Rows, wanted: list[Chunk], how: Labelling) -> None:
    todo = store.missing(wanted)
    start = time.monotonic()
    try:
        with how.teller.bar("labelling", sum(len(chunk) for chunk in todo)) as advance:
            for chunk in todo:
                asked = chunk.of(rows)
                store.write(chunk, _answers(teacher, asked, how.batch))
                advance(len(chunk))
    finally:
        if todo:
            spent = seconds_of(store, rows) + time.monotonic() - start
            ledger.note_origin(store.folder, {"rows": rows.fingerprint, "seconds": spent})
    if todo or not store.complete:
        store.finish()


def seconds_of(store: Store, rows: Rows) -> float:
    """What asking about these rows took, over all runs that did."""
    return sum(float(one.get("seconds", 0.0)) for one in store.origins if one.get("rows") == rows.fingerprint)


def _finished(teacher: Predictor, rows: Rows, root: Path, knowledge: Knowledge) -> Store | None:
    """The store that holds all these answers already, found without asking the teacher, which may cost money."""
    people = "user" in rows.roles
    wanted = Settings(teacher.fingerprint, rows.source, {"any": "scores"}, knowledge, people)
    for folder in root.iterdir() if root.is_dir() else ():
        with suppress(UserError):  # damaged, or of another version: then it is no answer
            found = ledger.read_settings(folder)
            if found == replace(wanted, kinds=found.kinds):
                store = Store.open(folder)
                if store.complete and not store.missing(chunks(rows.key)):
                    return store
    return None


def _persons(rows: Rows, settings: Settings) -> Array | None:
    return persons(list(rows.column(rows.role("user")))) if settings.people else None


def settings_for(teacher: Predictor, rows: Rows, knowledge: Knowledge) -> tuple[Settings, Signals]:
    """What decides the store of these answers, and the answer to the first row, which was asked for its kinds."""
    first = _said(teacher, rows.slice(0, 1))
    return Settings(teacher.fingerprint, rows.source, first.kinds, knowledge, "user" in rows.roles), first


def _answers(teacher: Predictor, rows: Rows, batch: int) -> Signals:
    """All signals of some rows, in their order; texts are asked in order of length, which pads less."""
    order = _by_length(rows)
    pieces = [_said(teacher, rows.take(order[start : start + batch])) for start in range(0, len(rows), batch)]
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    shapes = {name: {np.shape(piece[name])[1:] for piece in pieces} for name in pieces[0]}
    for name, found in shapes.items():
        if len(found) > 1:
            raise UserError(
                f"the teacher says '{name}' in the shapes {sorted(found)} in different batches; nothing in a store is "
                "ragged: tap a part that says as much of every row, such as one behind the pooling"
            )
    whole = {name: np.concatenate([np.asarray(piece[name]) for piece in pieces])[back] for name in pieces[0]}
    return Signals(whole, pieces[0].kinds, tail_temperatures=pieces[0].tail_temperatures)


def _by_length(rows: Rows) -> Array:
    text = rows.roles.get("text")
    if not isinstance(text, str):
        return np.arange(len(rows))
    return np.argsort([len(value) for value in rows.column(text)], kind="stable")


def _said(teacher: Predictor, rows: Rows) -> Signals:
    return teacher(rows.batch(teacher.reads))
