"""A file of rows to a file of answers, with an artifact and without torch."""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from limbeck import atomic, parts
from limbeck.artifact import Artifact, Column, Precision
from limbeck.errors import UserError
from limbeck.types import Rows

_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("us"),
}
_BLOCK = 1 << 20
"""Bytes of a CSV or JSONL file in memory at a time."""


@dataclass(frozen=True)
class Predict:
    """Settings.

    Args:
        top: answers a row, where the task gives several.
        precision: which file of the artifact; by default the one it recommends.
        batch: rows in memory at a time.
        threads: of ONNX Runtime.
    """

    top: int = 10
    precision: Precision | None = None
    batch: int = 512
    threads: int = 1

    def __post_init__(self) -> None:
        if self.top < 1 or self.batch < 1:
            raise UserError(f"top is {self.top} and batch {self.batch}; both must be at least 1")


@dataclass(frozen=True)
class Predicted:
    """What `predict` did.

    Args:
        rows: answered.
        seconds: from opening the source to the answers' last byte.
        out: where they lie; none where they were printed.
    """

    rows: int
    seconds: float
    out: Path | None

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


def predict(artifact: Artifact, source: Path, out: Path | None = None, *, settings: Predict | None = None) -> Predicted:
    """Answer every row of a file, in its order, in memory that does not grow with it.

    Args:
        artifact: opened.
        source: `.csv`, `.jsonl` (or `.ndjson`) or `.parquet`; only the columns of the contract are read.
            A list in a CSV file is one field, its values apart by spaces or `|`.
        out: `.jsonl` or `.parquet`, written whole or not at all; by default JSON lines are printed.
            Each answer has its `row`, counted from 0.
        settings: how.

    Raises:
        UserError: no such file, another ending, a column that is missing, or a value of another type.
    """
    settings = settings or Predict()
    predictor = artifact.predictor(settings.precision, settings.threads)
    answer = parts.get("tasks", artifact.contract.task).answer
    start, done = time.perf_counter(), 0
    batches = _batches(source, artifact.contract.columns, settings.batch)
    with _writer(out) as write:
        for table in batches:
            batch = Rows(table, np.arange(done, done + table.num_rows), "predict").batch()
            said = answer(predictor(batch), artifact.axis, batch, settings.top)
            write([{"row": done + place, **one} for place, one in enumerate(said)])
            done += table.num_rows
    return Predicted(done, time.perf_counter() - start, out)


def _batches(source: Path, columns: Sequence[Column], size: int) -> Iterator[pa.Table]:
    """The columns as the contract types them, `size` rows at a time (fewer where a block of the file ends)."""
    if not source.is_file():
        raise UserError(f"no file {source}")
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    read = readers.get(source.suffix.lower())
    if read is None:
        raise UserError(f"{source} ends in '{source.suffix}'; rows are read from {', '.join(readers)}")
    done = 0
    try:
        for block in read(source, columns, size):
            for start in range(0, block.num_rows, size):
                table = _typed(block.slice(start, size), columns, source, done)
                yield table
                done += table.num_rows
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as wrong:
        raise UserError(f"{source}, after row {done}: {wrong}") from None
    except UnicodeDecodeError as wrong:
        raise UserError(f"{source}: byte {wrong.start} of its header is not UTF-8; save the file as UTF-8") from None


def _csv(source: Path, columns: Sequence[Column], _: int) -> Iterator[pa.RecordBatch]:
    with source.open("rb") as file:
        first = pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=_BLOCK)).schema.names if _holds(file) else []
    _found(source, columns, first)
    # A type guessed from the first block would make text of digits lose its zeros, and fail on a later block.
    types = {column.name: pa.string() if column.many else _TYPES[column.type] for column in columns}
    options = pa.csv.ConvertOptions(include_columns=list(types), column_types=types)
    yield from pa.csv.open_csv(source, pa.csv.ReadOptions(block_size=_BLOCK), convert_options=options)


def _jsonl(source: Path, columns: Sequence[Column], _: int) -> Iterator[pa.RecordBatch]:
    with source.open("rb") as file:
        first = next((line for line in file if line.strip()), None)
    if first is None:
        return
    try:
        names = list(json.loads(first))
    except ValueError as wrong:
        raise UserError(f"{source}: its first line is no JSON object: {wrong}") from None
    _found(source, columns, names)
    types = [(c.name, pa.list_(_TYPES[c.type]) if c.many else _TYPES[c.type]) for c in columns]
    options = pa.json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore")
    yield from pa.json.open_json(source, pa.json.ReadOptions(block_size=_BLOCK), parse_options=options)


def _parquet(source: Path, columns: Sequence[Column], size: int) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(source) as file:
        _found(source, columns, file.schema_arrow.names)
        yield from file.iter_batches(size, columns=[column.name for column in columns])


def _holds(file: IO[bytes]) -> bool:
    held = bool(file.read(1))
    file.seek(0)
    return held


def _found(source: Path, columns: Sequence[Column], names: Sequence[str]) -> None:
    missing = [column.name for column in columns if column.name not in names]
    if missing:
        raise UserError(f"{source} has no column {', '.join(map(repr, missing))}; it has: {', '.join(names) or 'none'}")


def _typed(block: pa.RecordBatch, columns: Sequence[Column], source: Path, done: int) -> pa.Table:
    arrays = {}
    for column in columns:
        array = block.column(column.name)
        if column.many and (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
            array = _split(array)
        wanted = pa.list_(_TYPES[column.type]) if column.many else _TYPES[column.type]
        array = array if array.type == wanted else pc.cast(array, wanted)
        if array.null_count and not column.many and column.type not in ("text", "number"):
            row = done + pc.index(pc.is_null(array), True).as_py()
            raise UserError(
                f"{source}, row {row}: '{column.name}' is empty; it must hold a value of type {column.type}"
            )
        arrays[column.name] = array
    return pa.table(arrays)


def _split(array: pa.Array) -> pa.Array:
    """Text to lists; empty text to an empty list."""
    trimmed = pc.utf8_trim(array, " |")
    some = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    return pc.split_pattern_regex(some, r"[ |]+")


Write = Callable[[list[dict[str, Any]]], None]


@contextmanager
def _writer(out: Path | None) -> Iterator[Write]:
    """Takes answers; a file is there once the last was taken."""
    if out is None:
        yield _lines(sys.stdout)
        sys.stdout.flush()
        return
    if out.suffix.lower() not in (".jsonl", ".ndjson", ".parquet"):
        raise UserError(f"{out} ends in '{out.suffix}'; answers are written to .jsonl, .ndjson or .parquet")
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f"{out.name}{atomic.MARK}{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with half.open("wb") as file:
            if out.suffix.lower() == ".parquet":
                with _tables(file) as write:
                    yield write
            else:
                text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
                yield _lines(text)
                text.detach()  # flushed, and the file left open
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, out)
    finally:
        half.unlink(missing_ok=True)


def _lines(file: IO[str]) -> Write:
    # One encoder for all: json.dumps makes a new one in every call that has an option.
    spell = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

    def write(answers: list[dict[str, Any]]) -> None:
        file.write("".join([spell(one) + "\n" for one in answers]))

    return write


@contextmanager
def _tables(file: IO[bytes]) -> Iterator[Write]:
    with ExitStack() as held:
        writers: list[pa.parquet.ParquetWriter] = []

        def write(answers: list[dict[str, Any]]) -> None:
            table = pa.Table.from_pylist(answers, schema=writers[0].schema if writers else None)
            if not writers:
                writers.append(held.enter_context(pa.parquet.ParquetWriter(file, table.schema)))
            writers[0].write_table(table)

        yield write
        if not writers:
            write([])
