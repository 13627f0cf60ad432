"""Long rows (series, date, demand) on a grid of periods, and the windows of it that forecasts are asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck.encoder import as_text
from limbeck.errors import UserError, counted, few
from limbeck.types import Array

LEVELS = (0.1, 0.5, 0.9)
"""Of the quantiles that every forecast has; those that `quantile` and `hard_quantile` read where nobody says else."""
MEDIAN = LEVELS.index(0.5)
LARGEST = 1e30
"""Demand beyond this is refused: its square is no number in 32 bits."""
CELLS = 200_000_000
"""Series times periods at most: the grid is held in memory, 8 bytes a cell."""

Unit = Literal["number", "microsecond", "month"]
SECOND = 1_000_000
FIXED = {"hour": 3600 * SECOND, "day": 86400 * SECOND, "week": 7 * 86400 * SECOND}
MONTHS = {"month": 1, "quarter": 3, "year": 12}
SEASONS = {"hour": 24, "day": 7, "week": 52, "month": 12, "quarter": 4}
"""Periods after which demand repeats itself, by frequency; of others none is presumed."""


@dataclass(frozen=True)
class Frequency:
    """How dates follow one another.

    Args:
        unit: what dates are counted in: numbers as they are, microseconds since 1970, or months.
        step: of those in a period.
        first: some date of the grid, in microseconds or as a number.
    """

    unit: Unit
    step: int
    first: int

    @staticmethod
    def of(time: Array, series: Array, *, dated: bool, said: str | int | None) -> Frequency:
        """What the option says, or what lies between most dates of one series.

        Args:
            time: int64 (N,), microseconds or numbers.
            series: int64 (N,), whose dates those are.
            dated: whether they are microseconds.
            said: the option: a name of `FIXED` or `MONTHS`, a number for times that are numbers, or none.

        Raises:
            UserError: an option that does not fit, or nothing to see it by.
        """
        first = int(time.min())
        if said is not None:
            return Frequency(*_said(said, dated=dated), first)
        if dated and _months(time):
            gaps = np.diff(np.unique(_month(time)))
            return Frequency("month", int(np.gcd.reduce(gaps)) if len(gaps) else 1, first)
        order = np.lexsort((time, series))
        gaps = np.diff(time[order])[np.diff(series[order]) == 0]
        gaps, counts = np.unique(gaps[gaps > 0], return_counts=True)
        if not len(gaps):
            raise UserError("no series has two dates, so nothing says how far apart periods are; set options.frequency")
        return Frequency("microsecond" if dated else "number", int(gaps[counts.argmax()]), first)

    @property
    def name(self) -> str:
        """As the options say it, or how long a period is."""
        if self.unit == "number":
            return f"{self.step} of the time column"
        names = {v: k for k, v in (MONTHS if self.unit == "month" else FIXED).items()}
        length = f"{self.step} months" if self.unit == "month" else f"{self.step / SECOND:g} seconds"
        return names.get(self.step, length)

    @property
    def season(self) -> int:
        """Periods of a season, 1 where none is presumed."""
        return SEASONS.get(self.name, 1)

    def periods(self, time: Array) -> Array:
        """The number of each date's period, counted from the first: int64 (N,).

        Raises:
            UserError: dates between two periods.
        """
        since = _month(time) - _month(np.array([self.first])) if self.unit == "month" else time - self.first
        off = np.flatnonzero(since % self.step)
        if len(off):
            raise UserError(
                f"{len(off)} of {counted(len(time), 'date')} lie between two periods of {self.name}, such as "
                f"{self.dates(time[off[:1]], told=True)[0]}; mend them, or set options.frequency"
            )
        return np.asarray(since // self.step)

    def numbers(self, periods: Array) -> Array:
        """The same counted from the beginning of time, so that rows that come before change nothing: int64."""
        first = _month(np.array([self.first])) if self.unit == "month" else self.first
        return np.asarray(periods + first // self.step)

    def dates(self, periods: Array, *, told: bool = False) -> list[str]:
        """Periods (or, if `told`, times as the column has them) as text: 2024-01-31, with a time where it has one."""
        if self.unit == "number":
            return [str(int(p)) for p in (periods if told else self.first + periods * self.step)]
        if self.unit == "month" and not told:
            days = _day_of(self.first, _month(np.array([self.first])) + periods * self.step)
        else:
            days = (periods if told else self.first + periods * self.step).astype("datetime64[us]")
        return [text.removesuffix("T00:00:00.000000").removesuffix(".000000") for text in np.datetime_as_string(days)]


def _said(said: str | int, *, dated: bool) -> tuple[Unit, int]:
    if dated and said in FIXED:
        return "microsecond", FIXED[str(said)]
    if dated and said in MONTHS:
        return "month", MONTHS[str(said)]
    if not dated and isinstance(said, int) and said > 0:
        return "number", said
    wanted = f"one of {', '.join([*FIXED, *MONTHS])}" if dated else "a whole number above 0, as the time column is"
    raise UserError(f"options.frequency is {said!r}; {wanted} was wanted")


def _month(time: Array) -> Array:
    return time.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _ends(time: Array) -> Array:
    """The last day of each date's month."""
    return (_month(time) + 1).astype("datetime64[M]").astype("datetime64[D]") - 1


def _months(time: Array) -> bool:
    """Whether all dates are the first days of months, or all the last."""
    days = time.astype("datetime64[us]")
    firsts = days == days.astype("datetime64[M]")
    return bool(firsts.all() or (days == _ends(time)).all()) and len(np.unique(time)) > 1


def _day_of(first: int, months: Array) -> Array:
    """The day of these months that `first` is of its own; the last where that was, or where the month is shorter."""
    begin = months.astype("datetime64[M]")
    last = (months + 1).astype("datetime64[M]").astype("datetime64[D]") - 1
    one = np.array([first])
    if one.astype("datetime64[us]").astype("datetime64[D]")[0] == _ends(one)[0]:
        return np.asarray(last.astype("datetime64[us]"))
    into = one.astype("datetime64[us]") - one.astype("datetime64[us]").astype("datetime64[M]")
    return np.asarray(np.minimum(begin.astype("datetime64[us]") + into, last.astype("datetime64[us]")))


@dataclass(frozen=True)
class Layout:
    """How a file of long rows is read, and what windows are cut of it.

    Args:
        series, time, target: columns; the target may be empty where a week was not recorded.
        known: columns of numbers that are known for the dates asked about too.
        static: columns that say something of a series as a whole.
        dated: whether times are dates.
        frequency: of the dates.
        season: periods of a season; above 1 its phase is told as two numbers more of each date.
        length: periods a window looks back.
        horizon: periods it asks about.
        missing: what a period without a row holds: nothing (`mask`), or no demand (`zero`).
        negative: whether demand below 0 is refused.
    """

    series: str
    time: str
    target: str
    known: tuple[str, ...]
    static: tuple[str, ...]
    dated: bool
    frequency: Frequency
    season: int
    length: int
    horizon: int
    missing: Literal["mask", "zero"] = "mask"
    negative: Literal["refuse", "allow"] = "refuse"

    @property
    def channels(self) -> int:
        """Numbers known of each date."""
        return len(self.known) + 2 * (self.season > 1)

    @staticmethod
    def load(said: Mapping[str, Any]) -> Layout:
        """From what `dataclasses.asdict` made of one."""
        told = {**said, "known": tuple(said["known"]), "static": tuple(said["static"])}
        return Layout(**{**told, "frequency": Frequency(**said["frequency"])})


@dataclass(frozen=True)
class Grid:
    """Long rows by series and period.

    Args:
        layout: how they are read.
        names: of the S series, as text.
        demand: float64 (S, T), NaN where nothing was recorded.
        known: float32 (S, T, K), NaN likewise; the last two of K are the season's phase, where there is one.
        static: of every series, one text a static column; empty where it is missing.
        row: int64 (S, T), the raw row of each cell, -1 where there is none.
        first: the number of the grid's first period.
    """

    layout: Layout
    names: tuple[str, ...]
    demand: Array
    known: Array
    static: tuple[tuple[str, ...], ...]
    row: Array
    first: int

    @property
    def ends(self) -> tuple[Array, Array]:
        """The places of the first and the last recorded demand of every series, (S,); -1 of a series without any."""
        there = ~np.isnan(self.demand)
        any_there = there.any(1)
        last = there.shape[1] - 1 - there[:, ::-1].argmax(1)
        return np.where(any_there, there.argmax(1), -1), np.where(any_there, last, -1)

    def windows(self, series: Array, origin: Array) -> pa.Table:
        """The columns a forecast is made from, one row a question.

        Args:
            series: int64 (N,).
            origin: int64 (N,), the place of the last period that is known.

        Returns:
            `series`, `dates` (asked about, as text), `past` (demand, the latest last), and where there are any
            `known` (numbers of each date, those of the window before those asked about) and `static`.
        """
        layout = self.layout
        length, horizon = layout.length, layout.horizon
        back = np.arange(1 - length, 1)
        ahead = np.arange(1 - length, horizon + 1)
        dates = self._dates(np.arange(self.demand.shape[1] + horizon))
        asked = origin[:, None] + np.arange(1, horizon + 1)
        columns = {
            "series": pa.array(self.names).take(pa.array(series)),
            "dates": lists(dates.take(pa.array(asked.ravel())), horizon),
            "past": lists(pa.array(_cells(self.demand, series, origin, back).ravel()), length),
        }
        if layout.channels:
            told = _cells(self.known, series, origin, ahead)
            if layout.season > 1:
                told[..., -2:] = phase(self.first + origin[:, None] + ahead, layout.season)
            columns["known"] = lists(pa.array(told.ravel()), len(ahead) * layout.channels)
        if layout.static:
            flat = pa.array([value for one in self.static for value in one], pa.string())
            places = series[:, None] * len(layout.static) + np.arange(len(layout.static))
            columns["static"] = lists(flat.take(pa.array(places.ravel())), len(layout.static))
        return pa.table(columns)

    def _dates(self, places: Array) -> pa.Array:
        return pa.array(self.layout.frequency.dates(self.first + places))


def lists(flat: pa.Array, width: int) -> pa.ListArray:
    """Values end to end as lists of one width."""
    return pa.ListArray.from_arrays(pa.array(np.arange(len(flat) // width + 1, dtype=np.int32) * width), flat)


def _cells(grid: Array, series: Array, origin: Array, offsets: Array) -> Array:
    """The cells at these places beside each origin, (N, W, ...); NaN outside the grid."""
    places = origin[:, None] + offsets
    inside = (places >= 0) & (places < grid.shape[1])
    found = grid[series[:, None], np.clip(places, 0, grid.shape[1] - 1)]
    found[~inside] = np.nan
    return np.asarray(found)


def phase(periods: Array, season: int) -> Array:
    """Where in its season each period is, as sine and cosine: (..., 2)."""
    turn = 2 * np.pi * (periods % season) / season
    return np.stack([np.sin(turn), np.cos(turn)], -1)


def grid_of(table: pa.Table, layout: Layout) -> Grid:
    """Long rows on their grid; they may come in any order.

    Raises:
        UserError: a series has two rows of one date, demand is negative or beyond all numbers, or a covariate is text.
    """
    names, series = codes(table.column(layout.series), layout.series)
    time = times(table, layout.time)
    demand = numbers(table, layout.target)
    _check_demand(table, layout, demand)
    period = layout.frequency.periods(time)
    first = int(period.min())
    place, count = period - first, int(period.max()) - first + 1
    if len(names) * count > CELLS:
        raise UserError(
            f"{counted(len(names), 'series')} over {count:,} periods are more than {CELLS:,} cells, which are held at "
            "once; set options.frequency to a longer period, or leave some series out"
        )
    _check_once(names, series, place, layout.frequency, period)
    row = np.full((len(names), count), -1, np.int64)
    row[series, place] = np.arange(len(series))
    held = np.full((len(names), count), np.nan)
    held[series, place] = demand
    known = np.full((len(names), count, layout.channels), np.nan, np.float32)
    for channel, name in enumerate(layout.known):
        with np.errstate(over="ignore"):
            known[series, place, channel] = numbers(table, name)
    grid = Grid(layout, names, held, known, _static(table, layout, series, len(names)), row, first)
    if layout.missing == "zero":
        starts, ends = grid.ends
        within = (np.arange(count) >= starts[:, None]) & (np.arange(count) <= ends[:, None]) & (starts[:, None] >= 0)
        held[within & np.isnan(held)] = 0.0
    return grid


def codes(column: pa.ChunkedArray, name: str, *, of: str = "series") -> tuple[tuple[str, ...], Array]:
    """The series (or what else `of` calls them) in order of their names, and the place of each row's: int64 (N,).

    Raises:
        UserError: rows that name none.
    """
    text = as_text(column.combine_chunks())
    bare = np.flatnonzero(pc.fill_null(pc.equal(text, ""), True).to_numpy(zero_copy_only=False))
    if len(bare):
        found = counted(len(bare), "row")
        raise UserError(f"{found} without a {of}: column '{name}' is empty at row {few(bare.tolist())}")
    names = sorted(pc.unique(text).to_pylist())
    return tuple(names), pc.index_in(text, value_set=pa.array(names, pa.string())).to_numpy().astype(np.int64)


def times(table: pa.Table, name: str) -> Array:
    """A column of dates or whole numbers: int64 (N,), dates in microseconds.

    Raises:
        UserError: it is neither, or some are empty.
    """
    column = table.column(name)
    if column.null_count:
        lacking = counted(column.null_count, "row")
        raise UserError(f"{lacking} without a date: column '{name}' is empty there; mend or drop them")
    kind = column.type
    if pa.types.is_temporal(kind):
        return np.asarray(column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy())
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    found = column.to_numpy() if numeric else np.zeros(0)
    if not numeric or not np.array_equal(found, np.floor(found)):
        said = "numbers with a fraction" if numeric else f"{kind} values such as {column[0].as_py()!r}"
        raise UserError(f"column '{name}' holds {said}; dates (2024-01-31) or whole numbers were wanted")
    return np.asarray(found.astype(np.int64))


def numbers(table: pa.Table, name: str) -> Array:
    """A column of numbers, float64 (N,), NaN where it is empty.

    Raises:
        UserError: it holds something else.
    """
    column = table.column(name)
    kind = column.type
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    if not any(fits(kind) for fits in numeric):
        raise UserError(f"column '{name}' holds {kind} values; numbers were wanted")
    return np.array(column.cast(pa.float64()).to_numpy(), np.float64)


def _check_demand(table: pa.Table, layout: Layout, demand: Array) -> None:
    named = table.column(layout.series)
    for wrong, mend in (
        (np.abs(demand) > LARGEST, f"is beyond {LARGEST:g}; mend or empty it"),
        (demand < 0, "is negative; mend it, or if there can be such demand set options.negative: allow"),
    ):
        at = np.flatnonzero(wrong)
        if len(at) and not (layout.negative == "allow" and "negative" in mend):
            said = f"{named[at[0]].as_py()!r}, {layout.time} {table.column(layout.time)[at[0]].as_py()}"
            raise UserError(
                f"column '{layout.target}' {mend}: {counted(len(at), 'row')}, the first {demand[at[0]]:g} "
                f"(series {said})"
            )


def _check_once(names: Sequence[str], series: Array, place: Array, frequency: Frequency, period: Array) -> None:
    order = np.lexsort((place, series))
    again = np.flatnonzero((np.diff(series[order]) == 0) & (np.diff(place[order]) == 0))
    if len(again):
        at = order[again[0]]
        date = frequency.dates(period[at : at + 1])[0]
        raise UserError(
            f"{counted(len(again), 'row')} with a date that their series has already, the first {date} of series "
            f"{names[series[at]]!r} (a period is {frequency.name}); add such rows up, or drop all but one"
        )


def _static(table: pa.Table, layout: Layout, series: Array, count: int) -> tuple[tuple[str, ...], ...]:
    """What each series' rows say; of rows that differ, the first that says anything."""
    told = []
    for name in layout.static:
        text = pc.fill_null(as_text(table.column(name).combine_chunks()), "").to_numpy(zero_copy_only=False)
        held = np.full(count, "", object)
        there = np.flatnonzero(text != "")[::-1]
        held[series[there]] = text[there]
        told.append(held.tolist())
    return tuple(zip(*told, strict=True)) if told else ((),) * count
