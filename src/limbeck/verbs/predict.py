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
from limbeck.picture import BadRow
from limbeck.table import check_encoding, check_text, explained
from limbeck.types import Batch, Lists, Rows
from limbeck.unknown import Unknown

_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("us"),
    "picture": pa.large_binary(),
}
_SPELT: Mapping[str, pa.DataType] = {**_TYPES, "picture": pa.string()}
"""The same in files of text, where a picture is the path of its file."""
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
        encoding: of a CSV file's text.
    """

    top: int = 10
    precision: Precision | None = None
    batch: int = 512
    threads: int = 1
    encoding: str = "utf-8"

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
        lacking: list columns that the source did without, as every row was of somebody known.
        unknown: of the list columns it has, those with values that were not there in training.
    """

    rows: int
    seconds: float
    out: Path | None
    lacking: tuple[str, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


def predict(artifact: Artifact, source: Path, out: Path | None = None, *, settings: Predict | None = None) -> Predicted:
    """Answer every row of a file, in its order, in memory that does not grow with it.

    Args:
        artifact: opened.
        source: `.csv`, `.jsonl` (or `.ndjson`) or `.parquet`; only the columns of the contract are read.
            A list in a CSV file is one field, its values apart by spaces or `|`. A model that learnt its users
            one by one needs no lists (their histories) of them, so those columns may be left out where all
            users were there in training; then nothing that is in them is left out of the answers.
            A picture is the path of its file in CSV and JSON lines, from the source's folder, and its bytes in Parquet.
            A forecaster also takes a history as it was trained on (a row a series and date), which is read as a whole:
            every series is asked about the dates behind its last.
        out: `.jsonl` or `.parquet`, written whole or not at all; by default JSON lines are printed.
            Each answer has its `row`, counted from 0.
        settings: how.

    Raises:
        UserError: no such file, another ending, a column that is missing, somebody unknown without a list, or a
            value of another type.
    """
    settings = settings or Predict()
    predictor = artifact.predictor(settings.precision, settings.threads)
    answer = parts.get("tasks", artifact.contract.task).answer
    start, done = time.perf_counter(), 0
    format = _format(source, settings)
    names = format.names(source, settings)
    history = None if names is None else _history(artifact, names)
    lacking = () if names is None or history is not None else _lacking(source, artifact, names)
    columns = [column for column in artifact.contract.columns if column.name not in lacking]
    lists = [one for one in artifact.encoder.encodings if hasattr(one, "misses") and one.column not in lacking]
    unknown = [Unknown(one.column) for one in lists]
    with _writer(out) as write:
        tables = _batches(source, format, columns, settings) if names is not None else ()
        if history is not None:
            tables = _questions(
                history, _batches(source, format, _raw(source, history, names or ()), settings), settings
            )
        for table in tables:
            batch = Rows(table, np.arange(done, done + table.num_rows), "predict").batch()
            if lacking:
                batch = _known(source, artifact, batch, lacking)
            for place, one in enumerate(lists):
                column = batch[one.column]
                unknown[place] = unknown[place].with_more(column, one.misses(column), batch.key.id)
            try:
                said = answer(predictor(batch), artifact.axis, batch, settings.top)
            except BadRow as wrong:
                file = _file(source, format, columns, int(batch.key.id[wrong.at]), settings)
                raise UserError(f"{source}, row {batch.key.id[wrong.at]}: {file} cannot be read: {wrong.why}") from None
            write([{"row": done + place, **one} for place, one in enumerate(said)])
            done += table.num_rows
    return Predicted(done, time.perf_counter() - start, out, lacking, tuple(one for one in unknown if one.values))


@dataclass(frozen=True)
class _Format:
    """A sort of file: the names of its columns (none of an empty one), and those that are read, some rows at a time."""

    names: Callable[[Path, Predict], list[str] | None]
    read: Callable[[Path, Sequence[Column], Predict], Iterator[pa.RecordBatch]]


def _format(source: Path, settings: Predict) -> _Format:
    if not source.is_file():
        raise UserError(f"no file {source}")
    found = FORMATS.get(source.suffix.lower())
    if found is None:
        raise UserError(f"{source} ends in '{source.suffix}'; rows are read from {', '.join(FORMATS)}")
    if check_encoding(settings.encoding) != "utf-8" and found is not FORMATS[".csv"]:
        raise UserError(f"{source} is read as the UTF-8 that its format has; only a CSV has another encoding")
    return found


def _batches(source: Path, format: _Format, columns: Sequence[Column], settings: Predict) -> Iterator[pa.Table]:
    """The columns as the contract types them, a batch at a time (fewer rows where a block of the file ends)."""
    done = 0
    try:
        for block in format.read(source, columns, settings):
            for start in range(0, block.num_rows, settings.batch):
                table = _typed(block.slice(start, settings.batch), columns, source, done)
                yield table
                done += table.num_rows
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, UnicodeDecodeError) as wrong:
        if format is FORMATS[".csv"]:
            check_text(source, settings.encoding)
        raise UserError(f"{source}, after row {done}: {wrong}") from None


def _csv_names(source: Path, settings: Predict) -> list[str]:
    if not source.stat().st_size:
        raise UserError(f"{source} is empty; a line with the names of its columns was wanted")
    try:
        names: list[str] = pa.csv.open_csv(source, _csv_options(settings)).schema.names
    except (pa.ArrowInvalid, UnicodeDecodeError) as wrong:
        check_text(source, settings.encoding)
        raise UserError(f"{source}: {wrong}") from None
    return names


def _csv(source: Path, columns: Sequence[Column], settings: Predict) -> Iterator[pa.RecordBatch]:
    # A type guessed from the first block would make text of digits lose its zeros, and fail on a later block.
    types = {column.name: pa.string() if column.many else _SPELT[column.type] for column in columns}
    options = pa.csv.ConvertOptions(include_columns=list(types), column_types=types)
    yield from pa.csv.open_csv(source, _csv_options(settings), convert_options=options)


def _csv_options(settings: Predict) -> pa.csv.ReadOptions:
    return pa.csv.ReadOptions(block_size=_BLOCK, encoding=settings.encoding)


def _jsonl_names(source: Path, _: Predict) -> list[str] | None:
    with source.open("rb") as file:
        first = next((line for line in file if line.strip()), None)
    try:
        return None if first is None else list(json.loads(first))
    except ValueError as wrong:
        raise UserError(f"{source}: its first line is no JSON object: {wrong}") from None


def _jsonl(source: Path, columns: Sequence[Column], _: Predict) -> Iterator[pa.RecordBatch]:
    types = [(c.name, pa.list_(_SPELT[c.type]) if c.many else _SPELT[c.type]) for c in columns]
    options = pa.json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore")
    yield from pa.json.open_json(source, pa.json.ReadOptions(block_size=_BLOCK), parse_options=options)


def _parquet_names(source: Path, _: Predict) -> list[str]:
    with explained(source, "parquet"), pa.parquet.ParquetFile(source) as file:
        names: list[str] = file.schema_arrow.names
    return names


def _parquet(source: Path, columns: Sequence[Column], settings: Predict) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(source) as file:
        yield from file.iter_batches(settings.batch, columns=[column.name for column in columns])


FORMATS = {
    ".csv": _Format(_csv_names, _csv),
    ".jsonl": _Format(_jsonl_names, _jsonl),
    ".ndjson": _Format(_jsonl_names, _jsonl),
    ".parquet": _Format(_parquet_names, _parquet),
}
"""Ending -> how such a file is read."""


def _history(artifact: Artifact, names: Sequence[str]) -> Any:
    """The encoding that makes questions of a history, where there is one and a file holds no questions; else none."""
    found = next((one for one in artifact.encoder.encodings if hasattr(one, "questions")), None)
    return None if set(artifact.contract.reads) <= set(names) else found


def _raw(source: Path, history: Any, names: Sequence[str]) -> Sequence[Column]:
    """The columns of a history.

    Raises:
        UserError: it lacks some.
    """
    columns: Sequence[Column] = history.raw
    missing = [column.name for column in columns if column.name not in names]
    if missing:
        raise UserError(
            f"{source} has no column {', '.join(map(repr, missing))}; a history has "
            f"{', '.join(column.name for column in columns)}, and this has {', '.join(names)}"
        )
    return columns


def _questions(history: Any, tables: Iterator[pa.Table], settings: Predict) -> Iterator[pa.Table]:
    """A whole history as questions, some at a time."""
    asked = history.questions(pa.concat_tables(tables))
    for start in range(0, asked.num_rows, settings.batch):
        yield asked.slice(start, settings.batch)


def _lacking(source: Path, artifact: Artifact, names: Sequence[str]) -> tuple[str, ...]:
    """The list columns that a file does without, which is for the rows to judge.

    Raises:
        UserError: it lacks others.
    """
    missing = [column for column in artifact.contract.columns if column.name not in names]
    spare = [column.name for column in missing if column.many and _learnt(artifact)]
    wrong = [column.name for column in missing if column.name not in spare]
    if wrong:
        raise UserError(f"{source} has no column {', '.join(map(repr, wrong))}; it has: {', '.join(names) or 'none'}")
    return tuple(spare)


def _learnt(artifact: Artifact) -> Any:
    """The encoding of the values that the model learnt one by one, such as its users; none where there is none."""
    return next((encoding for encoding in artifact.encoder.encodings if hasattr(encoding, "knows")), None)


def _known(source: Path, artifact: Artifact, batch: Batch, lacking: Sequence[str]) -> Batch:
    """The rows with empty lists, which nobody who was there in training needs."""
    learnt = _learnt(artifact)
    strangers = np.flatnonzero(~learnt.knows(batch[learnt.column]))
    if len(strangers):
        row, lists = int(strangers[0]), ", ".join(map(repr, lacking))
        who = f"{learnt.column} {batch[learnt.column][row]!r}"
        raise UserError(
            f"{source}, row {batch.key.id[row]}: {who} was not there in training, and is known by {lists} alone: add "
            "that column (a list; in a CSV its values stand apart by spaces or |)"
        )
    return Batch({**batch, **{name: Lists.of([[]] * len(batch.key)) for name in lacking}}, batch.key)


def _typed(block: pa.RecordBatch, columns: Sequence[Column], source: Path, done: int) -> pa.Table:
    arrays = {}
    for column in columns:
        array = block.column(column.name)
        if column.many and (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
            array = _split(array)
        elif column.type == "picture" and pa.types.is_string(array.type):
            array = _opened(array, column, source, done)
        wanted = pa.list_(_TYPES[column.type]) if column.many else _TYPES[column.type]
        array = array if array.type == wanted else pc.cast(array, wanted)
        if array.null_count and not column.many and column.type not in ("text", "number"):
            row = done + pc.index(pc.is_null(array), True).as_py()
            raise UserError(
                f"{source}, row {row}: '{column.name}' is empty; it must hold a value of type {column.type}"
            )
        arrays[column.name] = array
    return pa.table(arrays)


def _opened(paths: pa.Array, column: Column, source: Path, done: int) -> pa.Array:
    """The bytes of the files that a column names."""
    held = []
    for row, path in enumerate(paths.to_pylist(), done):
        file = source.parent / (path or "")
        if not file.is_file():
            raise UserError(f"{source}, row {row}: '{column.name}' is {path!r}, and there is no such file")
        held.append(file.read_bytes())
    return pa.array(held, pa.large_binary())


def _file(source: Path, format: _Format, columns: Sequence[Column], row: int, settings: Predict) -> str:
    """What a row's picture is called: by its file, where it has one of its own."""
    column = next(column for column in columns if column.type == "picture")
    for block in format.read(source, [column], settings):
        if row < block.num_rows:
            said = block.column(column.name)[row].as_py()
            return f"'{said}'" if isinstance(said, str) else f"the picture in '{column.name}'"
        row -= block.num_rows
    return f"the picture in '{column.name}'"


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
