"""Row files as Arrow tables: found, checked, converted once, and mapped from the cache."""

from __future__ import annotations

import codecs
import errno
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import parts
from limbeck.atomic import replacing
from limbeck.cache import cache_folder
from limbeck.errors import UserError, few
from limbeck.task import Source
from limbeck.types import Array, Rows, fingerprint

Roles = dict[str, str | list[str]]

ROLES = ("id",)
"""The role that is read here, whatever the task."""
LISTED = ("privileged", "features", "known", "static")
"""Roles that several columns may play."""
NEVER_MISSING = ("user", "item", "time", "weight")
NO_LABEL = ("", "nan", "null")
"""How other tools write a label that is missing among labels that are text, in capitals or not."""


def reader_for(path: str, base: Path | None = None) -> str:
    """The name of the row source that reads files of this ending.

    Args:
        path: as typed.
        base: the recipe's folder, from which a relative path counts; where it is known, a folder that lacks the `/`
            at its end is told so.

    Raises:
        UserError: no row source does.

    >>> reader_for("orders.PARQUET")
    'parquet'
    """
    endings = {end: name for name in parts.names("data") for end in getattr(parts.get("data", name), "endings", ())}
    fitting = [end for end in endings if path.lower().endswith(end)]
    if not fitting and base is not None and find(path, base).is_dir():
        raise UserError(
            f"'{path}' is a folder; write '{path}/' where it holds a folder of pictures for each label, or name one "
            "file in it"
        )
    if not fitting:
        raise UserError(f"no reader knows the ending of '{path}'; there are: {', '.join(sorted(endings))}")
    return endings[max(fitting, key=len)]


def find(path: str, base: Path) -> Path:
    """What a recipe names, be it there or not.

    Recipes travel between people, so a relative path may not leave the recipe's folder, whether by
    `..` or through a link; an absolute path (or `~`) is the user's own word.

    Raises:
        UserError: it leaves the folder.
    """
    place = Path(path).expanduser()
    found = (base / place).resolve()
    if not place.is_absolute() and not found.is_relative_to(base.resolve()):
        raise UserError(f"'{path}' leaves the recipe's folder; put it inside or give an absolute path")
    return found


def find_file(path: str, base: Path) -> Path:
    """The file that a recipe names.

    Args:
        path: as typed.
        base: the recipe's folder, from which a relative path counts.

    Raises:
        UserError: it leaves the folder, is missing, is a folder, or is empty.
    """
    try:
        file = find(path, base)
        size = file.stat().st_size if file.exists() else None
    except (OSError, RuntimeError, ValueError) as wrong:
        raise UserError(f"'{path}' cannot be opened: {wrong}") from wrong
    if size is None:
        raise UserError(f"there is no file '{path}'; relative paths count from the recipe's folder, {base}")
    if file.is_dir():
        raise UserError(f"'{path}' is a folder; name one file in it, or a folder of pictures with a / at its end")
    if size == 0:
        raise UserError(f"'{path}' is an empty file; rows were wanted")
    return file


def find_source(path: str, base: Path) -> Path:
    """The file that a recipe's `data.path` names, or the folder where it ends in `/`.

    Raises:
        UserError: as `find_file` says; or there is no such folder.
    """
    if not path.endswith("/"):
        return find_file(path, base)
    folder = find(path, base)
    if not folder.is_dir():
        raise UserError(f"there is no folder '{path}'; relative paths count from the recipe's folder, {base}")
    return folder


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as wrong:
        raise UserError(f"{file.name} cannot be read: {wrong}") from wrong


def check_encoding(encoding: str) -> str:
    """The name of an encoding as Python spells it.

    >>> check_encoding("UTF8")
    'utf-8'
    """
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise UserError(f"there is no encoding '{encoding}'; use a name such as utf-8, gb18030 or latin-1") from None


def check_text(file: Path, encoding: str = "utf-8") -> None:
    """Refuse a file that is not text of this encoding, naming the first wrong byte and its line."""
    decoder = codecs.getincrementaldecoder(check_encoding(encoding))()
    read, lines = 0, 1
    with file.open("rb") as opened:
        while True:
            chunk = opened.read(1 << 20)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as wrong:
                line = lines + wrong.object[pending : wrong.start].count(b"\n")
                byte = read - pending + wrong.start
                raise UserError(
                    f"{file.name}: byte {byte} (line {line}) is not {encoding}; save the file as "
                    "UTF-8 or, of a CSV, name its encoding (data.encoding in a recipe, else --encoding)"
                ) from None
            if not chunk:
                return
            read, lines = read + len(chunk), lines + chunk.count(b"\n")


@dataclass(frozen=True)
class Conversion:
    """How a row source makes Arrow of a file.

    Args:
        reader: the row source's name.
        convert: reads a file.
        version: raised whenever the reader would make other rows of the same file.
        settings: those that change the rows; JSON values.
    """

    reader: str
    convert: Callable[[Path], tuple[pa.Schema, Iterable[pa.RecordBatch]]]
    version: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_file(path: str, base: Path, roles: Roles, how: Conversion) -> Source:
    """The rows of one file that a recipe names.

    Raises:
        UserError: as `find_file`, `converted` and `source_of` say.
    """
    file = find_file(path, base)
    table, source = converted(file, how)
    return source_of(table, source=source, roles=roles, facts={"file": file.name})


def converted(file: Path, how: Conversion) -> tuple[pa.Table, str]:
    """A file's rows, converted to uncompressed Arrow in the cache the first time, and mapped.

    Returns:
        The table, and the fingerprint of the file's bytes under this reader.

    Raises:
        UserError: the file is damaged, holds no rows, or names a column twice.
    """
    source = fingerprint(f"rows of {how.reader}", how.version, content=digest(file), settings=dict(how.settings))
    kept = cache_folder("rows") / f"{source}.arrow"
    if not kept.exists():
        with explained(file, how.reader):
            schema, batches = how.convert(file)
            check_names(schema, file.name)
            write_table(kept, schema, batches, said=file.name)
    return map_table(kept), source


class explained:  # noqa: N801  # reads as a word: `with explained(file, reader)`
    """Turns Arrow's errors over a file into the user's words."""

    def __init__(self, file: Path, reader: str) -> None:
        self.file, self.reader = file, reader

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, wrong: BaseException | None, trace: object) -> None:
        if not isinstance(wrong, pa.ArrowException | OSError):
            return
        said = str(wrong).strip().splitlines()[0]
        if isinstance(wrong, OSError) and wrong.errno == errno.ENOSPC:
            raise UserError(f"no room to convert {self.file.name}: {said}; set LIMBECK_CACHE to a larger disk")
        raise UserError(f"{self.file.name} is not whole or not {self.reader}: {said}") from wrong


def check_names(schema: pa.Schema, said: str) -> None:
    """Refuse two columns of one name."""
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise UserError(f"{said} names {', '.join(map(repr, twice))} more than once; give every column its own name")


def write_table(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, said: str) -> None:
    """Write Arrow IPC, uncompressed so that it can be mapped; whole or not at all.

    Dictionaries are spelt out: the file format allows one dictionary a column, and batches bring their own.
    """
    plain = pa.schema([f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema])
    count = 0
    with replacing(path) as scratch:
        with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_file(sink, plain) as writer:
            for batch in batches:
                writer.write_batch(batch if batch.schema == plain else batch.cast(plain))
                count += batch.num_rows
        if not count:
            raise UserError(f"{said} has columns but no rows")


def map_table(path: Path) -> pa.Table:
    """An Arrow IPC file, mapped into memory."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as wrong:
        raise UserError(
            f"the converted rows in {path} are damaged ({wrong}); delete that file and run again"
        ) from wrong


def source_of(
    table: pa.Table,
    *,
    source: str,
    roles: Mapping[str, str | list[str] | tuple[str, ...]],
    sides: Mapping[str, pa.Table] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Source:
    """Rows with their ids and roles, checked.

    A row's id is its position, or the whole number in the column with the role `id`. A label of text that says it is
    missing (`NaN`, `nan`, `null`, or nothing but spaces) is null from here on.

    Args:
        table: (N,) rows.
        source: fingerprint of what the table was read from.
        roles: role -> column, or columns for those of `LISTED`.
        sides: name -> side table.
        facts: what a reader should know.

    Raises:
        UserError: a role names no column, ids repeat, or a value that must be there is missing.
    """
    named = _named(roles, table.column_names)
    label = named.get("label")
    if isinstance(label, str):
        table = table.set_column(table.column_names.index(label), label, _said(table.column(label)))
    column = named.get("id")
    if isinstance(column, str):
        rows = Rows(table, _ids(table.column(column), column), fingerprint("source", 1, rows=source, id=column), named)
    else:
        rows = Rows(table, np.arange(table.num_rows, dtype=np.int64), source, named)
    check_roles(rows)
    return Source(rows, sides or {}, facts or {})


def _named(
    roles: Mapping[str, str | list[str] | tuple[str, ...]], columns: list[str]
) -> dict[str, str | tuple[str, ...]]:
    named: dict[str, str | tuple[str, ...]] = {}
    for role, column in roles.items():
        if role in LISTED:
            named[role] = (column,) if isinstance(column, str) else tuple(column)
        elif isinstance(column, str):
            named[role] = column
        else:
            raise UserError(
                f"role '{role}' names {len(column)} columns; it takes one ({' and '.join(LISTED)} take a list)"
            )
    asked = [(r, c) for r, said in named.items() for c in ((said,) if isinstance(said, str) else said)]
    absent = [f"'{column}' ({role})" for role, column in asked if column not in columns]
    if absent:
        raise UserError(
            f"data.roles names columns that do not exist: {', '.join(absent)}; there are: {', '.join(columns)}"
        )
    return named


def _said(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    """The labels, null where text says that there is none."""
    plain = labels.cast(labels.type.value_type) if pa.types.is_dictionary(labels.type) else labels
    if not (pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type)):
        return labels
    none = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(plain)), value_set=pa.array(NO_LABEL, plain.type))
    return pc.if_else(none, pa.scalar(None, plain.type), plain) if pc.any(none).as_py() else labels


def _ids(column: pa.ChunkedArray, name: str) -> Array:
    if not pa.types.is_integer(column.type) or column.null_count:
        found = f"{column.null_count} empty values" if pa.types.is_integer(column.type) else f"{column.type} values"
        raise UserError(f"column '{name}' has the role 'id' and holds {found}; whole numbers were wanted in every row")
    try:
        ids: Array = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        raise UserError(f"column '{name}' has the role 'id' and holds numbers beyond 64 bits with sign") from None
    ordered = np.sort(ids)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(twice):
        raise UserError(
            f"column '{name}' has the role 'id' but repeats {few(twice.tolist())}; every row needs its own id"
        )
    return ids


def check_roles(rows: Rows) -> None:
    """Refuse rows whose user, item, time or weight is missing, and text that is not text.

    Missing is null, NaN, or an empty string; a label of text may also say so. A class may be missing, for a task
    can have a use for rows without a label; a label in floating point is a measurement, and one that is missing an
    accident.

    Raises:
        UserError: with the count and the first ids.
    """
    for role in NEVER_MISSING:
        if isinstance(rows.roles.get(role), str):
            _need(rows, role, "mend or drop those rows")
    label = rows.roles.get("label")
    if isinstance(label, str) and pa.types.is_floating(rows.table.schema.field(label).type):
        _need(rows, "label", "mend or drop those rows; classes that may be empty are text or whole numbers")
    name = rows.roles.get("text")
    if isinstance(name, str):
        kind = rows.table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UserError(f"column '{name}' has the role 'text' and holds {kind} values; strings were wanted")


def check_labels(rows: Rows) -> None:
    """Refuse rows without a label, for a task that has no use for them.

    Raises:
        UserError: with the count and the first ids.
    """
    if isinstance(rows.roles.get("label"), str):
        _need(rows, "label", "mend or drop those rows, which nobody can learn from here")


def _need(rows: Rows, role: str, mend: str) -> None:
    name = rows.role(role)
    where = np.flatnonzero(rows.missing(name))
    if len(where):
        raise UserError(
            f"{len(where)} of {len(rows)} rows have no {role}: column '{name}' is empty, null or NaN "
            f"at id {few(rows.id[where].tolist())}; {mend}"
        )
