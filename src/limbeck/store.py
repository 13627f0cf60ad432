"""A teacher who has already answered: signals on disk, found by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from limbeck import atomic, ledger
from limbeck.chunk import Chunk, chunks, persons
from limbeck.errors import StoreDamaged, UnknownKey, UserError, counted
from limbeck.knowledge import CHANGED, Knowledge, join, keep, plain_type, unpack
from limbeck.lookup import KeyIndex
from limbeck.shard import (
    KEY,
    Record,
    Settings,
    build,
    commit,
    present,
    read,
    read_keys,
    read_record,
)
from limbeck.types import Array, Batch, Kind, Signals, stem_of

__all__ = ["Chunk", "Knowledge", "Settings", "Store", "chunks", "persons"]


class Store:
    """Signals on disk by key. Opened, it is a predictor that reads no column.

    One process may use a store from one thread; many processes may read and write it at once. A
    reader sees the rows that were there when it opened.

    Args:
        folder: where it lies.
        settings: as its `store.json` says.
        records: shard id -> record.
    """

    reads: tuple[str, ...] = ()

    def __init__(self, folder: Path, settings: Settings, records: Mapping[str, Record]) -> None:
        self.folder = folder
        self.settings = settings
        self.records = dict(sorted(records.items()))
        self._open: dict[int, dict[str, tuple[np.dtype[Any], Array]]] = {}

    @staticmethod
    def create(folder: Path, settings: Settings, *, origin: Mapping[str, Any]) -> Store:
        """Begin a store, or go on with the one of equal settings that is there.

        Args:
            folder: by custom named `settings.fingerprint`.
            settings: what its answers follow from.
            origin: JSON that leads back to the teacher and the rows, for repairs; its `rows` tells one
                set of rows from another.

        Raises:
            UserError: a store of other settings is there, or the disk is full.
            StoreDamaged: the one that is there is damaged.
        """
        ledger.begin(folder, settings, origin)
        return Store.open(folder)

    @staticmethod
    def open(folder: Path) -> Store:
        """Read the records; shards are checked when they are first touched.

        Raises:
            UserError: there is no store.
            StoreDamaged: its settings or one of its records are damaged.
        """
        settings = ledger.read_settings(folder)
        records = {}
        for path in (folder / ledger.SHARDS).glob("*.json"):
            record = read_record(path)
            if record.store != settings.fingerprint:
                raise StoreDamaged(f"{path}: it is of another store; run: limbeck store repair {folder}")
            records[record.shard] = record
        return Store(folder, settings, records)

    @property
    def fingerprint(self) -> str:
        """Of the settings, all answers follow from them."""
        return self.settings.fingerprint

    @property
    def source(self) -> str:
        """Fingerprint of the source the row ids count in."""
        return self.settings.source

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Signal -> kind."""
        return self.settings.kinds

    @property
    def knowledge(self) -> Knowledge:
        """What is kept."""
        return self.settings.knowledge

    @property
    def origins(self) -> list[dict[str, Any]]:
        """What leads back to the teacher and to every set of rows it was asked about, first come first."""
        return ledger.read_origins(self.folder)

    @property
    def forgotten(self) -> Array:
        """The people whose rows are never kept again, uint64, as `persons` counts them."""
        return ledger.read_forgotten(self.folder)

    @property
    def complete(self) -> bool:
        """Whether labelling finished and all its shards are there."""
        return ledger.read_complete(self.folder) == list(self.records)

    def __len__(self) -> int:
        """How many rows it holds."""
        return sum(record.rows for record in self.records.values())

    def missing(self, wanted: Iterable[Chunk]) -> list[Chunk]:
        """The chunks still to label, without the rows that are stored already.

        Shards whose data is gone or cut short count as not stored; rows of forgotten people count as
        stored.
        """
        whole = {name: r for name, r in self.records.items() if present(self._shards, r)}
        if len(whole) < len(self.records):
            self._set(whole)
        index, todo = self._index[0], []
        for chunk in wanted:
            unknown = index.rows(chunk.id, chunk.view) < 0
            if unknown.any():
                todo.append(chunk if unknown.all() else chunk.take(unknown))
        return todo

    def write(self, chunk: Chunk, signals: Signals | Iterable[Signals]) -> Record:
        """Keep what the teacher says of a chunk, durably. Rows of forgotten people are left out here.

        Args:
            chunk: every row asked for, each key once.
            signals: of all its rows, in their order; at once, or piece by piece.

        Returns:
            The record that lies there now.

        Raises:
            UserError: signals that cannot be kept (see `knowledge.keep`), other names or shapes than
                before, the wrong number of rows, no people where the store needs them; the disk is full.
            LimbeckError: another process stored other answers for the same rows.
        """
        if self.settings.people and chunk.person is None:
            raise UserError("this store says whose each row is: give the chunk its persons")
        if not self.settings.people:
            chunk = Chunk(chunk.positions, chunk.id, chunk.view)
        kept, start = [], 0
        for piece in [signals] if isinstance(signals, Signals) else signals:
            if any(self.kinds.get(stem) != piece.kinds[stem] for stem in (stem_of(name)[0] for name in piece)):
                raise UserError(f"the teacher says {dict(piece.kinds)}, the store was begun for {dict(self.kinds)}")
            rows = slice(start, start + len(next(iter(piece.values()))))
            kept.append(keep(self.knowledge, piece, chunk.id[rows], chunk.view[rows]))
            start = rows.stop
        if start != len(chunk) or not kept:
            raise UserError(f"the teacher answered {counted(start, 'row')} of a chunk of {len(chunk)}")
        with atomic.locked(self._shards, alone=False):
            record, data = build(self.settings, chunk, join(kept), self.forgotten)
            _alike([*list(self.records.values())[:1], record])
            record = commit(self._shards, record, data)
        self._set({**self.records, record.shard: record})
        return record

    def finish(self, *, every: bool = False) -> None:
        """Say that every row asked for is stored, so that a shard lost later is noticed.

        Args:
            every: the rows of all origins are; otherwise shards that were there once are still waited
                for, as they may hold rows that another origin asked for.
        """
        with atomic.locked(self._shards, alone=True):
            there = {path.stem for path in self._shards.glob("*.json")}
            waited = () if every else ledger.read_complete(self.folder) or ()
            ledger.write_complete(self.folder, there.union(waited))

    def __call__(self, batch: Batch) -> Signals:
        """The stored signals of these rows.

        Raises:
            UnknownKey: rows of another source, or rows it does not hold.
        """
        if batch.key.source != self.source:
            raise UnknownKey(
                f"these rows count in source {batch.key.source}, the store holds knowledge about {self.source}: "
                "label these rows too, or give the rows the store was made from"
            )
        return self.gather(batch.key.id, batch.key.view)

    def gather(self, id: Array, view: Array | None = None, *, decode: bool = True) -> Signals:
        """The stored signals of some rows, in the order asked, in fresh arrays.

        Args:
            id: int64, (B,), in any order; twice is allowed.
            view: int64, (B,); 0 where not given.
            decode: floats as float32 and positions as int64; else as stored, bfloat16 as uint16.

        Raises:
            UnknownKey: a row it does not hold, or one whose person was forgotten.
            StoreDamaged: a shard, checked at first touch, is not as it was written.
        """
        id = np.asarray(id, np.int64)
        view = np.zeros(len(id), np.int64) if view is None else np.asarray(view, np.int64)
        index, starts = self._index
        rows = index.rows(id, view)
        if len(rows) and (rows.min() < 0 or rows.max() >= starts[-1]):
            raise self._unknown(id, view, rows)
        order = np.argsort(rows)
        rows = rows[order]
        edges = np.searchsorted(rows, starts)
        rows -= np.repeat(starts[:-1], np.diff(edges))
        answer = self._empty(len(id), decode)
        places = {name: _whole_rows(values) for name, values in answer.items()}
        cuts = edges.tolist()
        for shard in np.flatnonzero(np.diff(edges)).tolist():
            part = slice(cuts[shard], cuts[shard + 1])
            for name, (plain, stored) in self._columns(shard).items():
                block = stored[rows[part]]
                if decode and self._formats[name][0] in CHANGED:
                    block = _whole_rows(unpack(block.view(plain).reshape(len(block), -1), self._formats[name][0]))
                places[name][order[part]] = block
        return Signals(answer, self.kinds, tail_temperatures=self.knowledge.temperatures)

    @property
    def _shards(self) -> Path:
        return self.folder / ledger.SHARDS

    def _set(self, records: Mapping[str, Record]) -> None:
        self.records = dict(sorted(records.items()))
        self._open = {}
        for name in ("_index", "_formats", "_names"):
            self.__dict__.pop(name, None)

    @cached_property
    def _names(self) -> list[str]:
        return list(self.records)

    @cached_property
    def _index(self) -> tuple[KeyIndex, Array]:
        """Key -> row, counted through the shards, with forgotten rows after the last; and where each shard starts."""
        keys = [read_keys(self._shards, record) for record in self.records.values()]
        lost = np.array([pair for r in self.records.values() for pair in r.forgotten], np.int64).reshape(-1, 2)
        id = np.concatenate([*(id for id, _ in keys), lost[:, 0]])
        view = np.concatenate([*(view for _, view in keys), lost[:, 1]])
        starts = np.cumsum([0, *(record.rows for record in self.records.values())])
        return KeyIndex(id, view), starts

    @cached_property
    def _formats(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        _alike(self.records.values())
        columns = next(iter(self.records.values())).columns if self.records else {}
        return {name: column for name, column in columns.items() if not name.startswith(f"{KEY}.")}

    def _columns(self, shard: int) -> dict[str, tuple[np.dtype[Any], Array]]:
        """Signal -> its numbers' type, and the rows, each one opaque value."""
        if shard not in self._open:
            columns = read(self._shards, self.records[self._names[shard]])
            signals = {name: columns[name].data for name in self._formats}
            self._open[shard] = {name: (data.dtype, _whole_rows(data)) for name, data in signals.items()}
        return self._open[shard]

    def _empty(self, count: int, decode: bool) -> dict[str, Array]:
        answer = {}
        for name, (dtype, shape) in self._formats.items():
            plain = np.empty(0, plain_type(dtype))
            answer[name] = np.empty((count, *shape), unpack(plain, dtype).dtype if decode else plain.dtype)
        return answer

    def _unknown(self, id: Array, view: Array, rows: Array) -> UnknownKey:
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            return UnknownKey(
                f"the store holds nothing about {len(unknown)} of the {len(id)} rows asked for "
                f"({_some(id, view, unknown)}); it holds {counted(len(self), 'row')}: label the others, or leave "
                "them out"
            )
        lost = np.flatnonzero(rows >= self._index[1][-1])
        return UnknownKey(
            f"{len(lost)} of the {len(id)} rows asked for ({_some(id, view, lost)}) were forgotten at their people's "
            "wish: leave them out"
        )


def _whole_rows(values: Array) -> Array:
    """(B, ...) as (B,) opaque values that share its memory: NumPy moves those twice as fast as short rows."""
    width = int(np.prod(values.shape[1:]))
    return values.reshape(len(values), width).view(np.dtype((np.void, width * values.itemsize))).reshape(-1)


def _some(id: Array, view: Array, where: Array) -> str:
    named = [f"id {id[i]}" + (f" view {view[i]}" if view[i] else "") for i in where[:5]]
    return ", ".join(named) + (", ..." if len(where) > 5 else "")


def _alike(records: Iterable[Record]) -> None:
    shapes = {tuple(sorted(record.columns.items())) for record in records}
    if len(shapes) > 1:
        raise UserError(
            "all shards of a store must hold the same signals in the same formats and shapes (pad and mask); "
            f"found {' and '.join(str(dict(shape)) for shape in sorted(shapes))}"
        )
