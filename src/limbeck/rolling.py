"""Rolling origins: which questions a grid of series is asked, which part each belongs to, and its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from limbeck.chunk import persons
from limbeck.errors import UserError, counted
from limbeck.mix import mix
from limbeck.series import Grid, codes, lists, times
from limbeck.split import LEFT_OUT, PARTS
from limbeck.types import Array, Rows

INTERMITTENT = 1.32
"""Periods between two demands on average, from which on a series is intermittent (Syntetos and Boylan 2005)."""
LEAST, MOST = 0.001, 1000.0
"""What a row may count for beside one of a typical series, where all series are to count alike."""


def parts_of_cells(grid: Grid, part: Array) -> Array:
    """The part of every cell, (S, T); where there is no row, of the date; -1 where dates have none, or several."""
    found = np.where(grid.row < 0, -1, part[grid.row])
    highest, lowest = found.max(0), np.where(found < 0, LEFT_OUT, found).min(0)
    ours = np.where(highest == lowest, highest, -1)
    # A gap filled with 0 on a date of several parts goes on with its series' last.
    before = np.maximum.accumulate(np.where(found >= 0, np.arange(found.shape[1]), 0), 1)
    last = np.where(np.isnan(grid.demand), -1, np.take_along_axis(found, before, 1))
    return np.asarray(np.where(found >= 0, found, np.where(ours >= 0, ours, last)))


def check_time(grid: Grid, parts_of: Array) -> None:
    """Refuse a split that lets a series learn from days after those that judge it."""
    length = parts_of.shape[1]
    for p in (1, 2):
        earlier = np.where((parts_of >= 0) & (parts_of < p), np.arange(length), -1).max(1)
        later = np.where(parts_of == p, np.arange(length), length).min(1)
        wrong = np.flatnonzero((later < length) & (earlier > later))
        if len(wrong):
            raise UserError(
                f"of {len(wrong)} of {len(grid.names)} series, such as {grid.names[wrong[0]]!r}, {PARTS[p]} dates lie "
                "before dates of an earlier part; a forecast is split in time: split.kind time_cut, or given, or whole "
                "series by group"
            )


def questions(grid: Grid, parts_of: Array, stride: int) -> tuple[Array, Array, Array, dict[str, Any]]:
    """Series, origins and parts of all questions, (N,) each, and what was left out."""
    layout, (starts, ends) = grid.layout, grid.ends
    count = grid.demand.shape[1]
    horizon = layout.horizon
    there = ~np.isnan(grid.demand)
    recorded = np.concatenate([np.zeros((len(there), 1), np.int64), np.cumsum(there, 1)], 1)
    origins = np.arange(max(0, count - horizon))
    low = np.maximum(origins + 1 - layout.length, 0)
    before = recorded[:, origins + 1] - recorded[:, low]
    asked = recorded[:, origins + 1 + horizon] - recorded[:, origins + 1]
    fits = (starts[:, None] >= 0) & (origins >= starts[:, None]) & (origins + horizon <= ends[:, None])
    # The least and the greatest part among the dates asked about.
    highest = np.full((len(there), len(origins)), -1)
    lowest = np.full((len(there), len(origins)), LEFT_OUT)
    for h in range(1, horizon + 1):
        one = parts_of[:, origins + h]
        highest = np.maximum(highest, one)
        lowest = np.where(one >= 0, np.minimum(lowest, one), lowest)
    good = fits & (before > 0) & (asked > 0) & (lowest == highest)
    good &= (highest > 0) | ((ends[:, None] - origins) % stride == 0)
    series, origin = np.nonzero(good)
    facts = {
        "questions_across_parts_left_out": int((fits & (before > 0) & (asked > 0) & (lowest < highest)).sum()),
        "questions_without_demand_left_out": int((fits & ((before == 0) | (asked == 0))).sum()),
        "series_shorter_than_the_horizon": int((ends - starts < horizon).sum()),
    }
    return series, origin, highest[series, origin], facts


def no_question(name: str, grid: Grid, cells: Array) -> str:
    """Why a part has no question."""
    dates = int(cells.any(0).sum())
    frequency, horizon = grid.layout.frequency.name, grid.layout.horizon
    return (
        f"no {name} question: its rows lie on {counted(dates, 'date')} ({frequency} apart), and one asks about "
        f"{horizon} in a row, all in this part, behind one with demand; set options.horizon lower, or let the split "
        "give it more dates"
    )


def rows_of(grid: Grid, series: Array, origin: Array, naive: Array, source: str, *, by_series: bool) -> Rows:
    """Questions as rows; their ids hang on nothing but series and date, so that rows that come later leave them."""
    table = grid.windows(series, origin)
    asked = origin[:, None] + np.arange(1, grid.layout.horizon + 1)
    truth = grid.demand[series[:, None], asked]
    cutoff = grid.layout.frequency.dates(grid.first + np.arange(grid.demand.shape[1]))
    columns = {
        "cutoff": pa.array(cutoff).take(pa.array(origin)),
        "targets": lists(pa.array(truth.ravel()), grid.layout.horizon),
        "naive_error": pa.array(naive[series]),
    }
    if by_series:
        typical = np.nanmedian(naive) if np.isfinite(naive).any() else 1.0
        weight = np.where(naive > 0, typical / np.where(naive > 0, naive, 1.0), 1.0)
        columns["weight"] = pa.array(np.clip(weight, LEAST, MOST)[series])
    for name, column in columns.items():
        table = table.append_column(name, column)
    period = grid.layout.frequency.numbers(grid.first + origin).astype(np.int64).view(np.uint64)
    id = (mix(mix(persons(grid.names))[series] ^ mix(period)) >> np.uint64(1)).astype(np.int64)
    assert len(np.unique(id)) == len(id), "63 bits tell series and dates apart"
    return Rows(table, id, source, {"weight": "weight"} if by_series else {})


def facts_of(grid: Grid, rows: Rows, parts_of: Array, naive: Array) -> dict[str, Any]:
    """What a reader should know of the series: how many, how far apart their dates, and what is odd about them."""
    layout, (starts, ends) = grid.layout, grid.ends
    there = ~np.isnan(grid.demand)
    spans = np.where(starts >= 0, ends - starts + 1, 0)
    time = times(rows.table, layout.time)
    _, series = codes(rows.table.column(layout.series), layout.series)
    trained = ((parts_of == 0) & there).any(1)
    return {
        "series": len(grid.names),
        "frequency": layout.frequency.name,
        "season": layout.season,
        "horizon": layout.horizon,
        "looks_back": layout.length,
        "dates": [*layout.frequency.dates(np.array([grid.first, grid.first + grid.demand.shape[1] - 1]))],
        "periods_without_demand_inside_series": int(spans.sum() - there.sum()),
        "rows_out_of_order": int(((np.diff(series) == 0) & (np.diff(time) < 0)).sum()),
        "series_without_demand": int((starts < 0).sum()),
        "series_not_in_training": int((~trained & (starts >= 0)).sum()),
        "series_that_never_change_in_training": int((naive == 0).sum()),
        "intermittent_series": int(intermittent(grid.demand).sum()),
    }


def intermittent(demand: Array) -> Array:
    """Whether so many periods of a series have no demand that it is intermittent, bool (...,)."""
    there = np.isfinite(demand).sum(-1)
    wanted = (np.nan_to_num(demand) != 0).sum(-1)
    return np.asarray(there > INTERMITTENT * wanted)
