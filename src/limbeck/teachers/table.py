"""A table of scores, kept by someone else: Parquet, CSV or Arrow; found by key, never by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from limbeck.brought import CLIP, Reading, need_columns
from limbeck.encoder import as_text, lookup
from limbeck.errors import UnknownKey, UserError, counted, few
from limbeck.table import digest, explained, find_file
from limbeck.task import Problem
from limbeck.types import Array, Batch, Kind, Lists, Signals, fingerprint

Name = str | int
"""What one row is known by: its id, or the text of its `by` columns."""


@dataclass(frozen=True)
class Table:
    """Scores in a file.

    A *wide* table has one line a row: a column a class, named like the class or by `columns`, or one
    `column` for the second of two classes. A *long* table, for rankings, has one line a pair of row
    and item; give `item` and `score`.

    Args:
        path: a `.parquet`, `.csv`, `.arrow` or `.feather` file.
        id: its column of row ids, read where `by` is empty.
        by: columns, named alike in the rows and the table, whose values tell a row, such as `review_id`.
        columns: class -> column.
        column: the one column of two classes.
        item: column of the item, which makes the table long.
        score: column of the score in a long table.
        missing: the score of pairs that a long table lacks; -inf masks them.
        signal: name of the signal; by default the task's own.
        kind: what the numbers are; probabilities become logits.
        clip: probabilities stay within [clip, 1 - clip].
    """

    path: str
    id: str = "id"
    by: str | tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    column: str | None = None
    item: str | None = None
    score: str = "score"
    missing: float = -np.inf
    signal: str | None = None
    kind: Kind | None = None
    clip: float = CLIP

    def find(self, base: Path) -> Path:
        """The file.

        Raises:
            UserError: there is none, or it leaves the recipe's folder.
        """
        return find_file(self.path, base)

    def open(self, problem: Problem, base: Path) -> TablePredictor:
        """Read the table and check that it knows every row of the problem.

        Raises:
            UserError: no such file, an unreadable one, missing columns, other classes or items, keys told
                twice, or numbers that are not finite.
            UnknownKey: it lacks rows of the problem.
        """
        file = self.find(base)
        need_columns(problem, self._by, self._who)
        wide = {} if self.item else self._wide(problem)
        numbers = [self.score] if self.item else list(wide.values())
        keys = [*(self._by or [self.id]), *([self.item] if self.item else [])]
        table = _read(file, keys if self._by else keys[1:], self._who)
        missing = [name for name in (*keys, *numbers) if name not in table.column_names]
        if missing:
            raise UserError(f"{self._who} has no column {few(missing)}; there are: {', '.join(table.column_names)}")
        classes = tuple(wide)
        if len(wide) == 1 and len(problem.axis) == 2:  # the other class is what the named one leaves
            classes = (*[value for value in problem.axis.values if value not in wide], *wide)
        reading = Reading(self._who, problem.axis, self.signal, self.kind, classes, self.clip)
        values = np.stack([_floats(table.column(name), name, self._who) for name in numbers], 1)
        scores = self._long(table, values[:, 0], problem) if self.item else self._dense(table, values, reading)
        predictor = TablePredictor(
            reading, scores, self._by, self._source(problem), self._fingerprint(file, problem, reading)
        )
        for rows in (problem.train, problem.validation, problem.test, problem.unlabelled):
            if rows is not None:
                predictor.positions(rows.batch(self._by))
        return predictor

    @property
    def _by(self) -> tuple[str, ...]:
        return (self.by,) if isinstance(self.by, str) else tuple(self.by)

    @property
    def _who(self) -> str:
        return f"table '{self.path}'"

    def _wide(self, problem: Problem) -> dict[str, str]:
        if self.column and self.columns:
            raise UserError(f"{self._who}: give 'column' or 'columns', not both")
        if self.column:
            return {problem.axis.values[-1]: self.column}
        return dict(self.columns) or {value: value for value in problem.axis.values}

    def _source(self, problem: Problem) -> str | None:
        """Ids count within one source; the table's must be that of the rows."""
        if self._by:
            return None
        sources = {rows.source for rows in (problem.train, problem.validation, problem.test) if len(rows)}
        if len(sources) != 1:
            raise UserError(
                f"{self._who}: ids of {len(sources)} sources would be mixed up; name the columns under 'by'"
            )
        return sources.pop()

    def _fingerprint(self, file: Path, problem: Problem, reading: Reading) -> str:
        said = {"id": self.id, "by": self._by, "columns": dict(self.columns), "column": self.column, "item": self.item}
        more = {"score": self.score, "missing": repr(self.missing), "source": self._source(problem)}
        return fingerprint("table", 1, file=digest(file), **said, **more, **reading.keys)

    def _keys(self, table: pa.Table) -> list[Name]:
        names = self._by or (self.id,)
        for name in names:
            if table.column(name).null_count:
                raise UserError(f"{self._who}: key column '{name}' has {table.column(name).null_count} empty cells")
        if not self._by and not pa.types.is_integer(table.column(self.id).type):
            raise UserError(f"{self._who}: column '{self.id}' holds {table.column(self.id).type}, row ids are integers")
        if self._by:
            return _joined([table.column(name).combine_chunks() for name in self._by], self._who)
        ids: list[Name] = table.column(self.id).to_pylist()
        return ids

    def _dense(self, table: pa.Table, values: Array, reading: Reading) -> _Pairs:
        keys = self._keys(table)
        known = dict(zip(keys, range(len(keys)), strict=True))
        if len(known) < len(keys):
            twice = [key for at, key in enumerate(keys) if known[key] != at]
            raise UserError(f"{self._who}: {len(twice)} keys are told twice: {few(twice)}")
        reading(values)
        every = np.arange(values.shape[1])
        offsets = np.arange(len(values) + 1) * values.shape[1]
        return _Pairs(known, offsets, np.tile(every, len(values)), values.ravel(), values.shape[1], 0.0)

    def _long(self, table: pa.Table, scores: Array, problem: Problem) -> _Pairs:
        keys = self._keys(table)
        names = as_text(table.column(self.item).combine_chunks())
        item = lookup(problem.axis.values, names)
        if (item < 0).any():
            unknown = list(dict.fromkeys(np.array(names.to_pylist(), object)[item < 0]))
            raise UserError(
                f"{self._who}: the catalogue of training lacks {counted(len(unknown), 'item')}: {few(unknown)}"
            )
        if not np.isfinite(scores).all():
            raise UserError(f"{self._who}: {int((~np.isfinite(scores)).sum())} scores are NaN or infinite")
        known: dict[Name, int] = {}
        row = np.array([known.setdefault(key, len(known)) for key in keys], np.int64)
        order = np.lexsort((item, row))
        row, item, scores = row[order], item[order], scores[order]
        twice = int(((np.diff(row) == 0) & (np.diff(item) == 0)).sum())
        if twice:
            raise UserError(f"{self._who}: {twice} pairs of key and item are told twice")
        offsets = np.searchsorted(row, np.arange(len(known) + 1))
        return _Pairs(known, offsets, item, scores, len(problem.axis), self.missing)


@dataclass(frozen=True)
class _Pairs:
    """Scores by row and position: those of row i are `scores[offsets[i]:offsets[i + 1]]`, at `columns` alike."""

    known: Mapping[Name, int]
    offsets: Array
    columns: Array
    scores: Array
    width: int
    missing: float

    def take(self, rows: Array) -> Array:
        """Dense scores (B, width)."""
        counts = self.offsets[rows + 1] - self.offsets[rows]
        begins = np.concatenate([[0], np.cumsum(counts)])[:-1]
        at = np.arange(counts.sum()) - np.repeat(begins - self.offsets[rows], counts)
        answer = np.full((len(rows), self.width), self.missing)
        answer[np.repeat(np.arange(len(rows)), counts), self.columns[at]] = self.scores[at]
        return answer


@dataclass(frozen=True, repr=False)
class TablePredictor:
    """Answers from an opened table.

    Args:
        reading: numbers to the main signal.
        pairs: the numbers.
        reads: the columns that tell a row; empty: its id does.
        source: the only source whose ids it knows; none where columns tell a row.
        fingerprint: of the file and the settings.
    """

    reading: Reading
    pairs: _Pairs
    reads: tuple[str, ...]
    source: str | None
    fingerprint: str

    def positions(self, batch: Batch) -> Array:
        """Where the rows are in the table, int64 (B,).

        Raises:
            UnknownKey: a row it does not hold, one of another source, or an augmented view.
        """
        who, key = self.reading.who, batch.key
        if self.source not in {None, key.source}:
            raise UnknownKey(f"{who} knows the ids of source {self.source}, not of {key.source}; key it by columns")
        if np.any(key.view != 0):
            raise UnknownKey(f"{who} knows rows as they are, no augmented views of them")
        names = _joined([batch[name] for name in self.reads], who) if self.reads else key.id.tolist()
        found = [self.pairs.known.get(name, -1) for name in names]
        missing = [name for name, at in zip(names, found, strict=True) if at < 0]
        if missing:
            what = " and ".join(self.reads) or "id"
            raise UnknownKey(f"{who} lacks {len(missing)} of {len(names)} rows, by {what}: {few(missing)}")
        return np.array(found, np.int64)

    def __call__(self, batch: Batch) -> Signals:
        """The numbers of these rows."""
        return self.reading(self.pairs.take(self.positions(batch.only(self.reads))))


def _joined(columns: Sequence[object], who: str) -> list[Name]:
    """One text a row; the unit separator keeps ('a', 'bc') and ('ab', 'c') apart."""
    if any(isinstance(column, Lists) for column in columns):
        raise UserError(f"{who}: a column of lists cannot tell a row; name others under 'by'")
    joined: list[Name] = pc.binary_join_element_wise(*map(as_text, columns), "\x1f").to_pylist()
    return joined


def _read(file: Path, texts: Sequence[str], who: str) -> pa.Table:
    with explained(file, file.suffix):
        if file.suffix == ".parquet":
            return pa.parquet.read_table(file)
        if file.suffix in {".arrow", ".feather"}:
            return pa.ipc.open_file(file).read_all()
        if file.suffix == ".csv":
            # A key that looks like a number must stay the text it is: 007 is not 7.
            convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
            return pa.csv.read_csv(file, convert_options=convert)
    raise UserError(f"{who}: '{file.suffix}' is no known ending; there are: .parquet, .csv, .arrow, .feather")


def _floats(column: pa.ChunkedArray, name: str, who: str) -> Array:
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise UserError(f"{who}: column '{name}' holds {kind}; numbers were wanted")
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
