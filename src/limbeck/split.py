"""Which rows train, which choose, and which are kept for the last table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck.errors import UserError, counted
from limbeck.mix import mix
from limbeck.types import Array, Rows, fingerprint

TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, 3
PARTS = ("train", "validation", "test")
ROLES = ("user", "time", "label", "split")
"""The roles that some split reads, whatever the task."""
Moment = float | datetime | date | str


@dataclass(frozen=True)
class Split:
    """How rows are divided.

    Random draws are keyed by seed and row id, never by position: the order of the rows does not
    matter, and rows that are appended leave the order of the old draws as it was.

    - `user_random`: each user's rows at random by `shares`; a user with 3 rows or more is in every part.
    - `leave_last_out`: each user's last row is test and the one before it validation, by time and,
      within one moment, by id; users with fewer than 3 rows only train.
    - `time_cut`: rows before the first of `cut` train, rows from the second on are test; without
      `cut`, where `shares` of the rows fall. Equal times stay together.
    - `group`: whole groups (column `by`) at random; `shares` count groups.
    - `random`: rows at random by `shares`; with `stratify`, each label by itself. Rows without a label
      train, and `shares` count the others.
    - `given`: the column with the role `split` says `train`, `validation` or `test`; an empty value
      leaves the row out. Where it names no validation rows, `validation_share` of the training rows
      that have a label are drawn, label by label unless labels are measured (floating point).

    Args:
        kind: one of the above.
        shares: of train, validation and test, in any unit.
        by: the column of the groups.
        cut: when validation and test begin: numbers, or dates where the time column holds dates (UTC).
        seed: of the draws.
        stratify: draw each label by itself.
        validation_share: above 0, below 1.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["user_random", "leave_last_out", "time_cut", "group", "random", "given"]
    shares: tuple[float, float, float] = (8, 1, 1)
    by: str | None = None
    cut: tuple[Moment, Moment] | None = None
    seed: int = 0
    stratify: bool = False
    validation_share: float = 0.15

    def __post_init__(self) -> None:
        if not (self.shares[0] > 0 and min(self.shares) >= 0 and np.isfinite(self.shares).all()):
            raise UserError(f"split.shares is {self.shares}; three numbers of 0 or more were wanted, the first above 0")
        if self.kind == "group" and self.by is None:
            raise UserError("split.kind is 'group', so split.by must name the column of the groups")
        if not 0 < self.validation_share < 1:
            raise UserError(f"split.validation_share is {self.validation_share}; it must be above 0 and below 1")

    @property
    def fingerprint(self) -> str:
        """Of every setting; equal fingerprints divide equal rows alike."""
        said = asdict(self)
        cut = None if self.cut is None else [m if isinstance(m, int | float) else str(m) for m in self.cut]
        return fingerprint("split", 1, **{**said, "cut": cut})


def assign(rows: Rows, split: Split) -> Array:
    """The part of every row.

    Args:
        rows: (N,), with the roles the split needs: `user`, `time`, `label` or `split`.
        split: how.

    Returns:
        int8, (N,): 0 train, 1 validation, 2 test, 3 left out.

    Raises:
        UserError: a role or column is missing, or a part would be empty.
    """
    if len(rows) < len(PARTS):
        raise UserError(f"{counted(len(rows), 'row')} cannot fill three parts; at least 3 were wanted")
    part = _KINDS[split.kind](rows, split)
    wanted = [share > 0 for share in split.shares] if split.kind in _SHARED and split.cut is None else [True] * 3
    counts = np.bincount(part, minlength=4)
    for name, count, needed in zip(PARTS, counts, wanted, strict=False):
        if needed and not count:
            found = ", ".join(f"{n} {c}" for n, c in zip(PARTS, counts, strict=False))
            raise UserError(
                f"split '{split.kind}' leaves the {name} part empty ({found}); bring more rows or split otherwise"
            )
    return part


def draws(id: Array, seed: int) -> Array:
    """A random number for every id: uint64, (N,), all different, the same on every machine.

    Source: SplitMix64 (Steele, Lea, Flood 2014), used as a hash: ids and seed are mixed, never counted.
    """
    return mix(mix(id.astype(np.uint64)) ^ mix(np.array([seed % 2**64], np.uint64)))


def _user_random(rows: Rows, split: Split) -> Array:
    return _ranked(_codes(rows, rows.role("user")), draws(rows.id, split.seed), split.shares)


def _random(rows: Rows, split: Split) -> Array:
    stratum = _codes(rows, rows.role("label")) if split.stratify else np.zeros(len(rows), np.int64)
    there, part = _labelled(rows), np.full(len(rows), TRAIN, np.int8)
    part[there] = _ranked(stratum[there], draws(rows.id[there], split.seed), split.shares)
    return part


def _group(rows: Rows, split: Split) -> Array:
    assert split.by is not None, "Split refuses groups without a column"
    code = _codes(rows, split.by)
    first = np.full(code.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, code, rows.id)  # a group is drawn by its smallest id, for codes follow the order of rows
    part: Array = _ranked(np.zeros(len(first), np.int64), draws(first, split.seed), split.shares)[code]
    return part


def _leave_last_out(rows: Rows, _: Split) -> Array:
    code, time = _codes(rows, rows.role("user")), _times(rows)
    order = np.lexsort((rows.id, time, code))
    rank, size = _places(code[order])
    part = np.zeros(len(rows), np.int8)
    part[order] = np.where(size < 3, TRAIN, np.select([rank == size - 1, rank == size - 2], [TEST, VALIDATION], TRAIN))
    return part


def _time_cut(rows: Rows, split: Split) -> Array:
    time = _times(rows)
    if split.cut is None:
        share = np.cumsum(split.shares) / np.sum(split.shares)
        at = np.minimum((share[:2] * len(time)).round().astype(np.int64), len(time) - 1)
        validation, test = np.sort(time)[at]
    else:
        dated = pa.types.is_temporal(rows.table.schema.field(rows.role("time")).type)
        validation, test = (_moment(m, dated=dated) for m in split.cut)
        if validation > test:
            raise UserError(f"split.cut is {split.cut}; the first moment may not be after the second")
    return ((time >= validation).astype(np.int8) + (time >= test)).astype(np.int8)


def _given(rows: Rows, split: Split) -> Array:
    name = rows.role("split")
    column = rows.table.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UserError(f"column '{name}' has the role 'split' and holds {kind} values; {', '.join(PARTS)} were wanted")
    said = pc.fill_null(column.cast(pa.large_string()), "")
    found = pc.index_in(said, pa.array(["", *PARTS], pa.large_string()))
    if found.null_count:
        other = pc.unique(said.filter(pc.is_null(found))).slice(0, 5).to_pylist()
        raise UserError(
            f"column '{name}' (role 'split') holds {', '.join(map(repr, other))}; {', '.join(PARTS)} were wanted"
        )
    part = (found.to_numpy().astype(np.int8) - 1) % 4
    train = np.flatnonzero((part == TRAIN) & _labelled(rows))
    if not (part == VALIDATION).any() and len(train):
        label = rows.roles.get("label")
        classes = isinstance(label, str) and not pa.types.is_floating(rows.table.schema.field(label).type)
        stratum = _codes(rows, str(label))[train] if classes else np.zeros(len(train), np.int64)
        share = split.validation_share
        part[train] = _ranked(stratum, draws(rows.id[train], split.seed), (1 - share, share, 0))
    return part


_KINDS = {
    "user_random": _user_random,
    "leave_last_out": _leave_last_out,
    "time_cut": _time_cut,
    "group": _group,
    "random": _random,
    "given": _given,
}
_SHARED = ("user_random", "random", "group", "time_cut")


def _labelled(rows: Rows) -> Array:
    """Whether a row has a label, bool (N,); where no column is one, nobody lacks it."""
    label = rows.roles.get("label")
    return ~rows.missing(label) if isinstance(label, str) else np.ones(len(rows), bool)


def _codes(rows: Rows, name: str) -> Array:
    """A number from 0 for every different value of a column: int64, (N,); empty values are one of them."""
    if name not in rows.names:
        raise UserError(f"no column '{name}' to split by; there are: {', '.join(rows.names)}")
    column = rows.table.column(name)
    if pa.types.is_nested(column.type):
        raise UserError(f"column '{name}' holds {column.type} values, which cannot be split by")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    whole = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    codes: Array = whole.dictionary_encode(null_encoding="encode").indices.to_numpy().astype(np.int64)
    return codes


def _times(rows: Rows) -> Array:
    name = rows.role("time")
    time = rows.column(name)
    if not isinstance(time, np.ndarray) or time.dtype.kind not in "iuf":
        kind = rows.table.schema.field(name).type
        raise UserError(f"column '{name}' has the role 'time' and holds {kind} values; numbers or dates were wanted")
    return time


def _moment(moment: Moment, *, dated: bool) -> float:
    """In the units of the time column; dates count microseconds from 1970, UTC."""
    if isinstance(moment, int | float):
        if dated:
            raise UserError(f"split.cut is {moment}, but the time column holds dates; write one such as 2024-01-31")
        return float(moment)
    if not dated:
        raise UserError(f"split.cut is {moment}, but the time column holds numbers; write a number")
    try:
        when = datetime.fromisoformat(str(moment))
    except ValueError:
        raise UserError(f"split.cut is '{moment}'; a date such as 2024-01-31 or 2024-01-31T12:00 was wanted") from None
    when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _places(ordered: Array) -> tuple[Array, Array]:
    """Of values that lie together: each one's place in its run, and the length of that run."""
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.append(starts, len(ordered)))
    return np.arange(len(ordered)) - np.repeat(starts, lengths), np.repeat(lengths, lengths)


def _ranked(stratum: Array, key: Array, shares: tuple[float, float, float]) -> Array:
    """Within each stratum in the order of the keys: first train, then validation, then test."""
    order = np.lexsort((key, stratum))
    rank, size = _places(stratum[order])
    train, validation = _counts(size, shares)
    part = np.empty(len(stratum), np.int8)
    part[order] = np.select([rank < train, rank < train + validation], [TRAIN, VALIDATION], TEST)
    return part


def _counts(size: Array, shares: tuple[float, float, float]) -> tuple[Array, Array]:
    """How many of `size` train and validate.

    The bounds between parts are rounded down, as slices at int(.8 * size) and int(.9 * size) are; over many
    small strata that comes nearer to the shares than rounding every part down, as RecBole does. Train
    keeps one row at least, and a part that would come to nothing takes one from train while it can.
    """
    share = np.array(shares) / np.sum(shares)
    # A bound that is whole must not fall to the number below by a float's last digit.
    train, ends = (np.floor(bound * size + 1e-9).astype(np.int64) for bound in (share[0], share[0] + share[1]))
    train = np.minimum(np.maximum(train, 1), size)
    validation, test = np.maximum(ends, train) - train, size - np.maximum(ends, train)
    test_short = (train > 1) & (test == 0) & (share[2] > 0)
    train = train - test_short
    validation_short = (train > 1) & (validation == 0) & (share[1] > 0)
    return train - validation_short, validation + validation_short
