"""A table's rows as features: side tables joined, what came before counted, and the columns that are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck.encoder import as_text
from limbeck.encoders.columns import as_read, kinds_of
from limbeck.errors import UserError, few
from limbeck.task import Source
from limbeck.types import Array, Rows

SURE = 10.0
"""Rows of the overall rate that every rate of the past is mixed with, or a single yes would be a certainty."""


def with_sides(source: Source) -> tuple[pa.Table, dict[str, list[str]]]:
    """The rows with the columns of the side tables `user` and `item`, found by their first column.

    Returns:
        The table; and what of it came from which side. Columns whose names are taken are left out.
    """
    table, joined = source.rows.table, {}
    for side in ("user", "item"):
        beside = source.sides.get(side)
        if beside is None or not isinstance(source.rows.roles.get(side), str):
            continue
        keys = as_text(beside.column(0).combine_chunks())
        at = pc.index_in(as_text(_whole(table.column(source.rows.role(side)))), value_set=keys)
        new = [name for name in beside.column_names[1:] if name not in table.column_names]
        for name in new:
            table = table.append_column(name, beside.column(name).take(at))
        joined[side] = new
    return table, joined


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def features_of(rows: Rows, own: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns a student may read: users and items, those with the role `features`, or all that have no role.

    Args:
        rows: with their roles.
        own: columns that were made here and are features in any case.

    Raises:
        UserError: a privileged column is among the features; or there is none.
    """
    roles = rows.roles
    taken = {c for role, said in roles.items() if role != "features" for c in _several(said)}
    named = _several(roles.get("features", ())) or [name for name in rows.names if name not in taken]
    both = [name for name in named if name in _several(roles.get("privileged", ()))]
    if both:
        raise UserError(f"{few(both)} cannot be features and privileged; a student would read what it may not see")
    who = [roles[role] for role in ("user", "item") if isinstance(roles.get(role), str)]
    found = tuple(dict.fromkeys([*map(str, who), *named, *own]))
    if not found:
        raise UserError(f"no column is left to read; there are: {', '.join(rows.names)}")
    return found


def _several(said: str | Sequence[str]) -> list[str]:
    return [said] if isinstance(said, str) else list(said)


def read_as(rows: Rows, columns: Mapping[str, Any], more: Sequence[str] = ()) -> Rows:
    """Rows whose features have types that may be empty, and the role `features` written out.

    Args:
        rows: with their roles.
        columns: what the recipe says of some.
        more: columns that were made here.

    Raises:
        UserError: as `features_of` and `kinds_of` say.
    """
    features = features_of(rows, more)
    known = [*features, *_several(rows.roles.get("privileged", ()))]
    unread = [name for name in columns if name not in known]
    if unread:
        raise UserError(f"options.columns names {few(unread)}; the columns that are read are: {', '.join(known)}")
    kinds = kinds_of(rows, known, columns)
    kept = tuple(name for name in features if kinds[name]["kind"] != "left_out")
    table = as_read(rows.table, {name: how for name, how in kinds.items() if how["kind"] != "left_out"})
    return Rows(table, rows.id, rows.source, {**rows.roles, "features": kept}, rows.view)


def before(who: Array, time: Array, counts: Array) -> tuple[Array, Array, Array]:
    """Of every row, which of some rows are of the same person (or thing) and strictly earlier.

    Args:
        who: whose row it is, int64 (N,).
        time: of every row, (N,).
        counts: whether a row is one of those some, bool (N,).

    Returns:
        `order`: positions of those some by person and time, ties by position; and for every row i the first and the
        end of its part of `order`, int64 (N,).
    """
    _, moment = np.unique(time, return_inverse=True)
    span = int(moment.max(initial=0)) + 1
    key = who.astype(np.int64) * span + moment
    some = np.flatnonzero(counts)
    order = some[np.argsort(key[some], kind="stable")]
    ordered = key[order]
    first = np.searchsorted(ordered, who.astype(np.int64) * span)
    return order, first, np.searchsorted(ordered, key)


def history(who: Array, time: Array, counts: Array, items: pa.Array, *, length: int) -> pa.Array:
    """The last items of the same person's rows strictly before each row, latest last; a list of text a row."""
    order, first, end = before(who, time, counts)
    start = np.maximum(first, end - length)
    size = end - start
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int32)
    at = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], size)
    return pa.ListArray.from_arrays(pa.array(offsets), as_text(items).take(pa.array(order[at])))


def past_rate(who: Array, time: Array, counts: Array, yes: Array) -> tuple[Array, Array]:
    """The share of yes among the same person's (or thing's) rows strictly before each row, and how many there are.

    The share is mixed with the overall one, so that few rows say little. Float64 (N,) and int64 (N,).
    """
    order, first, end = before(who, time, counts)
    summed = np.concatenate([[0.0], np.cumsum(yes[order])])
    overall = float(yes[counts].mean()) if counts.any() else 0.0
    said = summed[end] - summed[first]
    return (said + SURE * overall) / (end - first + SURE), end - first


def codes(rows: Rows, role: str) -> Array:
    """The column of a role as numbers from 0, equal for equal values, int64 (N,)."""
    column = as_text(_whole(rows.table.column(rows.role(role))))
    return np.asarray(column.dictionary_encode().indices.to_numpy(zero_copy_only=False), np.int64)


def moments(rows: Rows) -> Array:
    """The column with the role `time` as numbers, (N,).

    Raises:
        UserError: it holds neither numbers nor times.
    """
    raw = rows.column(rows.role("time"))
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "iuf":
        raise UserError(f"column '{rows.role('time')}' has the role 'time', but holds neither numbers nor times")
    return raw
