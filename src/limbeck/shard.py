"""One shard of a store on disk: an Arrow file of some rows' signals, and the record that commits it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from limbeck import atomic, knowledge
from limbeck.chunk import Chunk, int64, refuse_twice
from limbeck.errors import LimbeckError, StoreDamaged, UserError
from limbeck.knowledge import Kept, Knowledge, Packed
from limbeck.types import SHORT, Array, Kind, fingerprint, stem_of

SCHEMA = 1
KEY = "key"
"""The stem of the columns that say whose rows these are; no signal may be called so."""


@dataclass(frozen=True)
class Settings:
    """What makes two stores the same: all their answers follow from it.

    Args:
        teacher: fingerprint of the predictor asked, its encoder or prompt included.
        source: fingerprint of the source the row ids count in.
        kinds: signal -> kind.
        knowledge: what is kept.
        people: whether each row says whose it is, so that a person can be forgotten.
    """

    teacher: str
    source: str
    kinds: Mapping[str, Kind]
    knowledge: Knowledge = field(default_factory=Knowledge)
    people: bool = False

    def __post_init__(self) -> None:
        wrong = [name for name in self.kinds if name.split(".")[0] == KEY or stem_of(name)[1]]
        if wrong or not self.kinds:
            ends = ", ".join(f".{part}" for part in SHORT)
            raise UserError(f"signals {wrong} cannot be stored: no name may start with '{KEY}' or end in {ends}")

    @property
    def fingerprint(self) -> str:
        """Equal for equal answers."""
        return fingerprint("store", SCHEMA, **self.facts())

    def facts(self) -> dict[str, Any]:
        """The JSON `of` takes back."""
        said = {"teacher": self.teacher, "source": self.source, "kinds": dict(self.kinds), "people": self.people}
        return {**said, "knowledge": knowledge.facts(self.knowledge)}

    @staticmethod
    def of(said: Mapping[str, Any]) -> Settings:
        """From the JSON of `facts`."""
        kept = said["knowledge"]
        kept = Knowledge(**{**kept, "temperatures": tuple(kept["temperatures"])})
        return Settings(said["teacher"], said["source"], said["kinds"], kept, said["people"])


@dataclass(frozen=True)
class Field:
    """A column of a shard: `rows` times `shape` numbers from byte `offset` of its file on."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Record:
    """What commits a shard: its bytes count once this lies beside them.

    Args:
        store: fingerprint of the store's settings.
        shard: the shard's id.
        input: digest of the keys that were asked for.
        rows: how many are there; the rows of forgotten people are not.
        bytes, xxh3, sha256: of the data file.
        keys: XXH3 of the columns of ids and views.
        ids, views: least and greatest of the rows there; (0, -1) where there are none.
        consecutive: whether the ids rise by one and there is one view.
        fields: the columns.
        forgotten: (id, view) of rows asked for and not kept, as their people want to be forgotten.
        clipped: probabilities brought into (0, 1).
    """

    store: str
    shard: str
    input: str
    rows: int
    bytes: int
    xxh3: str
    sha256: str
    keys: str
    ids: tuple[int, int]
    views: tuple[int, int]
    consecutive: bool
    fields: tuple[Field, ...]
    forgotten: tuple[tuple[int, int], ...] = ()
    clipped: int = 0

    @property
    def file(self) -> str:
        """The data's name; it holds the contents' hash, so that rewriting a shard is one step: the record's."""
        return f"{self.shard}-{self.xxh3}.arrow"

    @property
    def columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Signal -> format and shape of a row, which all shards of a store share."""
        return {f.name: (f.dtype, f.shape) for f in self.fields}

    @staticmethod
    def of(said: dict[str, Any]) -> Record:
        """From the JSON a record is kept as."""
        fields = tuple(Field(**{**f, "shape": tuple(f["shape"])}) for f in said["fields"])
        pairs = {name: tuple(said[name]) for name in ("ids", "views")}
        return Record(**{**said, **pairs, "fields": fields, "forgotten": tuple((i, v) for i, v in said["forgotten"])})


def build(settings: Settings, chunk: Chunk, kept: Kept, forgotten: Array) -> tuple[Record, memoryview]:
    """The bytes of a shard and their record.

    Args:
        settings: of the store.
        chunk: every row asked for.
        kept: the signals of all rows of the chunk.
        forgotten: uint64, the people whose rows are left out.

    Raises:
        UserError: a key comes twice.
    """
    refuse_twice(chunk.id, chunk.view)
    out = np.zeros(len(chunk), bool)
    if chunk.person is not None and len(forgotten):
        out = np.isin(chunk.person, forgotten)
    rows = chunk if not out.any() else chunk.take(~out)
    columns = {n: c if not out.any() else Packed(c.data[~out], c.dtype) for n, c in sorted(kept.columns.items())}
    lost = tuple(zip(chunk.id[out].tolist(), chunk.view[out].tolist(), strict=True))
    shard = fingerprint("shard", SCHEMA, store=settings.fingerprint, input=chunk.digest)
    return assemble(settings, (shard, chunk.digest), rows, Kept(columns, kept.clipped), lost)


def assemble(
    settings: Settings, name: tuple[str, str], rows: Chunk, kept: Kept, lost: tuple[tuple[int, int], ...]
) -> tuple[Record, memoryview]:
    """The bytes of a shard whose id and input digest are known, and their record."""
    keys = {f"{KEY}.id": Packed(int64(rows.id), "int64"), f"{KEY}.view": Packed(int64(rows.view), "int64")}
    if rows.person is not None:
        keys[f"{KEY}.person"] = Packed(np.ascontiguousarray(rows.person, np.uint64), "uint64")
    buffer, fields = _arrow({**keys, **kept.columns})
    data = memoryview(buffer)
    one_view = len(rows) > 0 and bool((rows.view == rows.view[0]).all())
    record = Record(
        store=settings.fingerprint,
        shard=name[0],
        input=name[1],
        rows=len(rows),
        bytes=len(data),
        xxh3=xxhash.xxh3_64_hexdigest(data),
        sha256=hashlib.sha256(data).hexdigest(),
        keys=_keys_digest(rows.id, rows.view),
        ids=_range(rows.id),
        views=_range(rows.view),
        consecutive=one_view and _consecutive(rows.id),
        fields=fields,
        forgotten=lost,
        clipped=kept.clipped,
    )
    return record, data


def _arrow(columns: Mapping[str, Packed]) -> tuple[pa.Buffer, tuple[Field, ...]]:
    arrays, fields = [], []
    for name, column in columns.items():
        shape = column.data.shape[1:]
        array = pa.array(np.ascontiguousarray(column.data).reshape(-1))
        if shape:
            array = pa.FixedSizeListArray.from_arrays(array, int(np.prod(shape)))
        tags = {"limbeck.dtype": column.dtype, "limbeck.shape": json.dumps(list(shape))}
        arrays.append(array)
        fields.append(pa.field(name, array.type, nullable=False, metadata=tags))
    batch = pa.record_batch(arrays, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=None)) as writer:
        writer.write_batch(batch)
    buffer = sink.getvalue()
    # The record keeps where the numbers lie, so that reading trusts no byte before its checksum.
    said = pa.ipc.open_file(buffer).get_batch(0)
    placed = []
    for name, column in columns.items():
        offset = said.column(name).buffers()[-1].address - buffer.address if len(said) else 0
        placed.append(Field(name, column.dtype, column.data.shape[1:], offset))
    return buffer, tuple(placed)


def commit(folder: Path, record: Record, data: memoryview) -> Record:
    """Write a shard, data first, then its record. The first committer wins.

    Returns:
        The record that lies there.

    Raises:
        LimbeckError: the shard is there with other bytes, so the teacher does not answer alike twice.
        UserError: the disk is full.
    """
    atomic.replace(folder / record.file, data)
    place, text = folder / f"{record.shard}.json", atomic.seal("record", asdict(record))
    if atomic.publish(place, text):
        return record
    there = read_record(place)
    if there.sha256 != record.sha256:
        (folder / record.file).unlink(missing_ok=True)
        if there.forgotten != record.forgotten:
            return there
        raise LimbeckError(
            f"shard {record.shard} is stored with other bytes than this run computed: the teacher is not "
            "deterministic, though equal fingerprints promise equal answers. Fix its seeds and dropout, or set its "
            "temperature to 0, and label again; the shard stored first was kept"
        )
    return there


def rewrite(folder: Path, old: Record, record: Record, data: memoryview) -> None:
    """Put a shard in the place of its former self; at every instant one of the two is whole."""
    atomic.replace(folder / record.file, data)
    atomic.replace(folder / f"{record.shard}.json", atomic.seal("record", asdict(record)))
    if old.file != record.file:
        (folder / old.file).unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """The record of a shard.

    Raises:
        StoreDamaged: it is not as it was written, or is another shard's.
    """
    try:
        record = Record.of(atomic.unseal("record", path.read_bytes()))
    except (ValueError, FileNotFoundError) as wrong:
        raise damaged(path, str(wrong) if isinstance(wrong, ValueError) else "it is missing") from None
    if record.shard != path.stem:
        raise damaged(path, f"it is the record of shard {record.shard}")
    return record


def fault(folder: Path, record: Record) -> str | None:
    """What is wrong with a shard's data, judged by its SHA-256; none where it is whole."""
    path = folder / record.file
    if not path.exists():
        return "it is missing"
    data = path.read_bytes()
    if len(data) != record.bytes:
        return f"it has {len(data)} bytes, not {record.bytes}"
    if hashlib.sha256(data).hexdigest() != record.sha256:
        return "its contents do not match its checksum"
    return None


def present(folder: Path, record: Record) -> bool:
    """Whether a shard's data lies there in its full length."""
    path = folder / record.file
    return path.exists() and path.stat().st_size == record.bytes


def read(folder: Path, record: Record) -> dict[str, Packed]:
    """Every column, (rows, ...), as it lies on disk: checked, then mapped without copying.

    Raises:
        StoreDamaged: the file is not as it was written.
    """
    path = folder / record.file
    if not present(folder, record):
        raise damaged(path, "it is missing" if not path.exists() else f"it does not have {record.bytes} bytes")
    with pa.memory_map(str(path)) as file:  # closed at once: the mapping outlives the handle
        buffer = file.read_buffer()
    if xxhash.xxh3_64_hexdigest(memoryview(buffer)) != record.xxh3:
        raise damaged(path, "its contents do not match its checksum")
    return {f.name: Packed(_numbers(buffer, f, record.rows), f.dtype) for f in record.fields}


def read_keys(folder: Path, record: Record) -> tuple[Array, Array]:
    """Ids and views, int64 (rows,) each, without touching the signals.

    Raises:
        StoreDamaged: they are not as they were written.
    """
    if record.consecutive:
        return record.ids[0] + np.arange(record.rows), np.full(record.rows, record.views[0])
    if not present(folder, record):
        raise damaged(folder / record.file, "it is missing or cut short")
    where = {f.name: f.offset for f in record.fields}
    id, view = (
        np.fromfile(folder / record.file, np.int64, record.rows, offset=where[f"{KEY}.{name}"])
        for name in ("id", "view")
    )
    if _keys_digest(id, view) != record.keys:
        raise damaged(folder / record.file, "its contents do not match its checksum")
    return id, view


def damaged(path: Path, reason: str) -> StoreDamaged:
    """The error that says so and how to mend it."""
    return StoreDamaged(f"{path}: {reason}; run: limbeck store repair {path.parent.parent}")


def _numbers(buffer: pa.Buffer, field: Field, rows: int) -> Array:
    count = rows * int(np.prod(field.shape))
    return np.frombuffer(buffer, knowledge.plain_type(field.dtype), count, field.offset).reshape(rows, *field.shape)


def _range(values: Array) -> tuple[int, int]:
    return (int(values.min()), int(values.max())) if len(values) else (0, -1)


def _consecutive(id: Array) -> bool:
    low, high = _range(id)  # without this int64 could wrap around and seem to go on
    return high - low == len(id) - 1 and np.array_equal(id, low + np.arange(len(id)))


def _keys_digest(id: Array, view: Array) -> str:
    digest = xxhash.xxh3_64(int64(id).tobytes())
    digest.update(int64(view).tobytes())
    return digest.hexdigest()
