"""Ask a teacher about every row, once, and keep the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import UserError
from limbeck.knowledge import Knowledge
from limbeck.progress import Teller
from limbeck.store import Settings, Store, chunks, persons
from limbeck.types import Array, Predictor, Rows, Signals

SHARD_BYTES = 32_000_000
SHARD_ROWS = 4096


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
    settings, first = settings_for(teacher, rows, how.knowledge)
    store = Store.create(root / settings.fingerprint, settings, origin=how.origin)
    person = persons(list(rows.column(rows.role("user")))) if settings.people else None
    each = sum(np.asarray(value).nbytes for value in first.values())
    size = int(np.clip(SHARD_BYTES // max(each, 1), how.batch, SHARD_ROWS))
    wanted = chunks(rows.key, size=size, person=person)
    todo = store.missing(wanted)
    with how.teller.bar("labelling", sum(len(chunk) for chunk in todo)) as advance:
        for chunk in todo:
            asked = chunk.of(rows)
            store.write(chunk, _answers(teacher, asked, how.batch))
            advance(len(chunk))
    if todo or not store.complete:
        store.finish()
    return store


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
    whole = {name: np.concatenate([np.asarray(piece[name]) for piece in pieces])[back] for name in pieces[0]}
    return Signals(whole, pieces[0].kinds, tail_temperatures=pieces[0].tail_temperatures)


def _by_length(rows: Rows) -> Array:
    text = rows.roles.get("text")
    if not isinstance(text, str):
        return np.arange(len(rows))
    return np.argsort([len(value) for value in rows.column(text)], kind="stable")


def _said(teacher: Predictor, rows: Rows) -> Signals:
    return teacher(rows.batch(teacher.reads))
