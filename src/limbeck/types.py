"""The values that travel: rows, batches, signals, and the arrow `Batch -> Signals`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck.errors import NoSuchName, UserError, counted

if TYPE_CHECKING:
    import torch

    Tensor = np.ndarray[Any, Any] | torch.Tensor

Array = np.ndarray[Any, Any]
Kind = Literal["logits", "probabilities", "scores", "values", "quantiles", "embedding", "boxes", "mask"]
KINDS: tuple[str, ...] = ("logits", "probabilities", "scores", "values", "quantiles", "embedding", "boxes", "mask")


SHORT = ("ids", "values", "tail")
"""What a long head is kept as: its best entries' places, their numbers, and the mass outside them."""


def stem_of(name: str) -> tuple[str, str]:
    """A signal's name as that of the whole signal and, of one that was shortened, the part.

    >>> stem_of("scores.ids"), stem_of("hidden.encoder.2")
    (('scores', 'ids'), ('hidden.encoder.2', ''))
    """
    stem, _, part = name.rpartition(".")
    return (stem, part) if stem and part in SHORT else (name, "")


def fingerprint(what: str, version: int, /, **keys: Any) -> str:
    """Hash explicit keys into 32 hexadecimal digits.

    Args:
        what: the sort of thing, so that two sorts with equal keys differ.
        version: raised whenever the code behind it changes what it answers.
        keys: JSON values; order does not matter.

    >>> fingerprint("thing", 1, a=1, b=2) == fingerprint("thing", 1, b=2, a=1)
    True
    """
    text = json.dumps([what, version, keys], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Lists:
    """A multi-valued raw column of B rows: row i holds `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: raw values of all rows end to end: numbers, or a list of str.
        offsets: int64, (B + 1,), rising from 0.
    """

    values: Array | list[str]
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array | list[str]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @staticmethod
    def of(rows: Sequence[Sequence[Any]]) -> Lists:
        """From one sequence a row."""
        offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        flat = [value for row in rows for value in row]
        return Lists(flat if not flat or isinstance(flat[0], str) else np.asarray(flat), offsets)


@dataclass(frozen=True)
class Key:
    """Which rows these are: (source fingerprint, row id, view).

    Args:
        source: fingerprint of the source the ids count in.
        id: int64, (B,), unique and stable within the source.
        view: int64, (B,), 0 unless augmented.
    """

    source: str
    id: Array
    view: Array

    def __len__(self) -> int:
        return len(self.id)


class Batch(Mapping[str, Any]):
    """Some rows as columns, by name: a tensor, a list (str for text, bytes for pictures), or `Lists`; with the key."""

    def __init__(self, columns: Mapping[str, Any], key: Key) -> None:
        self.columns = dict(columns)
        self.key = key
        for name, column in self.columns.items():
            if len(column) != len(key):
                raise UserError(f"column '{name}' has {counted(len(column), 'row')}, the batch has {len(key)}")

    def __getitem__(self, name: str) -> Any:
        try:
            return self.columns[name]
        except KeyError:
            known = ", ".join(self.columns) or "none"
            raise NoSuchName(f"no column '{name}' in these rows; there are: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:  # number of columns, as a Mapping counts
        return len(self.columns)

    def only(self, names: Sequence[str]) -> Batch:
        """The same rows with just these columns; the rest cannot be seen."""
        return Batch({name: self[name] for name in names}, self.key)


class Signals(Mapping[str, Any]):
    """What a predictor says of a batch: named tensors, first axis the row, each of a declared kind.

    A long head is told by its best K entries: `scores.ids` int64 (B, K), `scores.values` (B, K) and
    `scores.tail` (B, number of temperatures), the probability mass outside the K at each of the
    temperatures that `tail_temperatures` lists.

    Args:
        values: name -> array or torch tensor, first axis B.
        kinds: name -> kind; one for all parts of a signal that was shortened.
        tail_temperatures: the temperatures of the columns of every `.tail`.
        notes: facts a reader must know, such as how much clipping took place.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        kinds: Mapping[str, Kind],
        *,
        tail_temperatures: Sequence[float] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.values_by_name = dict(values)
        self.kinds = dict(kinds)
        self.tail_temperatures = tuple(tail_temperatures)
        self.notes = tuple(notes)
        for name in self.values_by_name:
            if stem_of(name)[0] not in self.kinds:
                raise UserError(f"signal '{name}' declares no kind; use one of {', '.join(KINDS)}")

    def __getitem__(self, name: str) -> Any:
        try:
            return self.values_by_name[name]
        except KeyError:
            known = ", ".join(self.values_by_name) or "none"
            raise NoSuchName(f"no signal '{name}'; there are: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


@runtime_checkable
class Predictor(Protocol):
    """The arrow. Equal fingerprints promise equal answers; `reads` names the only columns it sees."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The only columns it may see."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of everything that decides its answers."""
        ...

    def __call__(self, batch: Batch) -> Signals:
        """What it says of every row of a batch."""
        ...


@dataclass(frozen=True)
class Axis:
    """What the positions of a signal's long axis mean: classes of a label, or items of a catalogue.

    Args:
        name: `label`, `item`, ...
        values: the raw value at each position, as text, in order.
        titles: what a person reads at each position; the values where nothing better is known.
    """

    name: str
    values: tuple[str, ...]
    titles: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def fingerprint(self) -> str:
        """Of name and values; titles are only read."""
        return fingerprint("axis", 1, name=self.name, values=self.values)

    def title(self, position: int) -> str:
        """What a person reads at a position."""
        return (self.titles or self.values)[position]


@dataclass(frozen=True)
class Rows:
    """A table of raw columns with stable ids.

    Args:
        table: Arrow columns, memory-mapped where the file allows.
        id: int64, (N,), unique and stable within the source.
        source: fingerprint of the source the ids count in.
        roles: role -> column name (`user`, `item`, `time`, `label`, `text`, `weight`, ...), with the
            columns only a teacher may see under `privileged`.
        view: int64, (N,); 0 unless augmented.
    """

    table: pa.Table
    id: Array
    source: str
    roles: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    view: Array | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(self.table.column_names)

    @property
    def key(self) -> Key:
        """Of every row."""
        view = np.zeros(len(self), np.int64) if self.view is None else self.view
        return Key(self.source, self.id, view)

    @property
    def fingerprint(self) -> str:
        """Of the source, of which of its rows these are, in this order, and of what its columns mean."""
        ids = hashlib.sha256(np.ascontiguousarray(self.id).tobytes() + self.key.view.tobytes()).hexdigest()
        roles = {role: column if isinstance(column, str) else list(column) for role, column in self.roles.items()}
        return fingerprint("rows", 2, source=self.source, ids=ids, roles=roles)

    def role(self, role: str) -> str:
        """The column that plays a role."""
        column = self.roles.get(role)
        if not isinstance(column, str):
            raise UserError(f"no column has the role '{role}'; name it under data.roles")
        return column

    def take(self, positions: Array) -> Rows:
        """The rows at these positions, in this order."""
        view = None if self.view is None else self.view[positions]
        return replace(self, table=self.table.take(pa.array(positions)), id=self.id[positions], view=view)

    def drawn(self, count: int) -> Array:
        """Positions of so many rows (of all, where there are no more), rising; drawn alike every time.

        The first rows of a file stand for nobody else where it is sorted by label.
        """
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(self))
        return np.sort(order[:count])

    def slice(self, start: int, stop: int) -> Rows:
        """Consecutive rows, without copying."""
        stop = min(stop, len(self))
        view = None if self.view is None else self.view[start:stop]
        return replace(self, table=self.table.slice(start, stop - start), id=self.id[start:stop], view=view)

    def select(self, names: Sequence[str]) -> Rows:
        """The same rows with just these columns."""
        missing = [n for n in names if n not in self.names]
        if missing:
            raise UserError(f"no column {', '.join(map(repr, missing))}; there are: {', '.join(self.names)}")
        return replace(self, table=self.table.select(list(names)))

    def column(self, name: str) -> Any:
        """One raw column as a batch holds it: array, list of str, or `Lists`."""
        if name not in self.names:
            raise UserError(f"no column '{name}'; there are: {', '.join(self.names)}")
        return _raw(self.table.column(name))

    def missing(self, name: str) -> Array:
        """Whether a column's value is null, NaN or empty text, bool (N,)."""
        column = self.table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        missing = pc.is_null(column, nan_is_null=True)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            missing = pc.or_(missing, pc.fill_null(pc.equal(column, pa.scalar("", column.type)), True))
        return np.asarray(missing.to_numpy())

    def batch(self, names: Sequence[str] | None = None) -> Batch:
        """All these rows as one batch of raw columns."""
        names = self.names if names is None else names
        return Batch({name: self.column(name) for name in names}, self.key)

    def batches(self, size: int, names: Sequence[str] | None = None) -> Iterator[Batch]:
        """Consecutive batches of at most `size` rows."""
        for start in range(0, len(self), size):
            yield self.slice(start, start + size).batch(names)


def _raw(column: pa.ChunkedArray) -> Any:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # zero chunks stay chunked
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if pa.types.is_list(whole.type) or pa.types.is_large_list(whole.type):
        offsets = whole.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
        return Lists(cast(Any, _flat(whole.flatten())), offsets - offsets[0])
    return _flat(whole)


def _flat(array: pa.Array) -> Array | list[str] | list[bytes | None]:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        texts: list[str] = pc.fill_null(array, "").to_pylist()
        return texts
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        pictures: list[bytes | None] = array.to_pylist()
        return pictures
    if pa.types.is_temporal(array.type):
        array = pc.cast(pc.cast(array, pa.timestamp("us"), safe=False), pa.int64())
    return np.asarray(array.to_numpy(zero_copy_only=False))
