"""Windows of series to a model's tensors: past demand on its own scale, what is known of each date, and categories.

In the form `windows` it says, of L periods looked back on, H asked about and K numbers known of each date:

| tensor | shape | |
|---|---|---|
| `past` | (B, L) | (demand - level) / scale, the latest last; 0 where nothing was recorded |
| `observed` | (B, L) | 1 where something was |
| `level`, `scale` | (B,) | of the window's own past, so nothing of the future can be in them |
| `known` | (B, 1 + back + H, K) | the window's mean, then of the last `back` dates and of those asked about; \
standardised by training rows, 0 where missing, within 10 deviations; left out where K is 0 |
| `static` | (B, C) | ids of categories in one table; left out where there are none |

In the form `flat` it says `features` (B, D), for trees and linear models; `names` says what they are called: past
demand as above, level and scale, the numbers known in their own units, and 0 or 1 for each of the commonest categories.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from limbeck.artifact import Column
from limbeck.encoder import RESERVED, UNKNOWN
from limbeck.errors import UserError
from limbeck.series import LARGEST, Grid, Layout, grid_of
from limbeck.types import Array, Lists, Rows, fingerprint

Scaling = Literal["standard", "center", "identity"]
Form = Literal["windows", "flat"]
LIMIT = 10.0
"""Deviations from the mean that a number known of a date may have; it is drawn to them."""
FLOOR = 0.01
"""Share of the level that the scale is at least, so that a series that never changed is no division by 0."""
LOOKED_AT = 20_000
"""Training rows that means and deviations are taken from."""
ONE_HOT = 100
"""Values of a category at most that have a column of their own in the form `flat`."""


class Windows:
    """Windows of one layout.

    Args:
        layout: of the long rows that they are cut from.
        scaling: what past demand becomes: `standard` (its window's mean is 0 and its deviation 1), `center` (its mean
            is 0; for demand that is a logarithm), or `identity`.
        means, deviations: of the numbers known of a date among training rows, one a channel.
        categories: of every static column, the values among training rows.
        back: dates looked back on of which each says what was known; all of the others together say a mean.
        form: `windows` or `flat`.
    """

    kind = "windows"

    def __init__(
        self,
        layout: Layout,
        *,
        scaling: Scaling = "standard",
        means: Sequence[float] = (),
        deviations: Sequence[float] = (),
        categories: Sequence[Sequence[str]] = (),
        back: int = 4,
        form: Form = "windows",
    ) -> None:
        if scaling not in get_args(Scaling):
            raise UserError(f"scaling is '{scaling}'; one of {', '.join(get_args(Scaling))} was wanted")
        if back < 0:
            raise UserError(f"back is {back}; a number of dates, 0 or more, was wanted")
        self.column = "past"
        self.layout = layout
        self.back = min(back, layout.length)
        self.scaling: Scaling = scaling
        self.means, self.deviations = tuple(means), tuple(deviations)
        self.categories = tuple(tuple(values) for values in categories)
        self.form: Form = form

    @staticmethod
    def fit(
        rows: Rows, layout: Layout, *, scaling: Scaling = "standard", back: int = 4, form: Form = "windows"
    ) -> Windows:
        """Means, deviations and categories of training rows."""
        some = rows.take(rows.drawn(LOOKED_AT))
        means, deviations = np.zeros(layout.channels), np.ones(layout.channels)
        if layout.channels:
            held = np.clip(_wide(some.column("known"), layout.channels), -LARGEST, LARGEST)
            there = ~np.isnan(held)
            count = np.maximum(there.sum(0), 1)
            means = np.where(there, held, 0.0).sum(0) / count
            deviations = np.sqrt((np.where(there, held - means, 0.0) ** 2).sum(0) / count)
            deviations[deviations == 0] = 1.0
        categories: list[list[str]] = []
        if layout.static:
            told = np.array(rows.column("static").values, object).reshape(len(rows), -1)
            categories = [sorted({value for value in column if value}) for column in told.T]
        return Windows(
            layout,
            scaling=scaling,
            means=means.tolist(),
            deviations=deviations.tolist(),
            categories=categories,
            back=back,
            form=form,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """What it takes; `series` and `dates` are for the answer only."""
        known = ("known",) if self.layout.channels else ()
        return ("series", "dates", "past", *known, *(("static",) if self.layout.static else ()))

    @cached_property
    def size(self) -> int:
        """Rows of the table that the ids of `static` point into: nothing, unknown, and every value."""
        return RESERVED + sum(map(len, self.categories))

    def __call__(self, column: Mapping[str, Any]) -> dict[str, Array]:
        """The tensors of its form.

        Args:
            column: raw columns by name.

        Raises:
            UserError: numbers of another count than the layout's, or demand beyond all numbers.
        """
        layout = self.layout
        past = _latest(column["past"], layout.length)
        if (np.abs(past) > LARGEST).any():
            raise UserError(f"past demand is beyond {LARGEST:g}, of which no forecast can be made; mend or empty it")
        observed = ~np.isnan(past)
        count = np.maximum(observed.sum(1), 1)
        level = np.where(observed, past, 0.0).sum(1) / count
        spread = np.sqrt((np.where(observed, past - level[:, None], 0.0) ** 2).sum(1) / count)
        if self.scaling == "identity":
            level = np.zeros_like(level)
        scale = np.ones_like(level)
        if self.scaling == "standard":
            scale = np.maximum(spread, FLOOR * np.abs(level))
            scale[scale == 0] = 1.0
        tensors = {
            "past": np.where(observed, (past - level[:, None]) / scale[:, None], 0.0).astype(np.float32),
            "observed": observed.astype(np.float32),
            "level": level.astype(np.float32),
            "scale": scale.astype(np.float32),
        }
        if layout.channels:
            tensors["known"] = self._known(column["known"])
        if layout.static:
            tensors["static"] = self._static(column["static"])
        return tensors if self.form == "windows" else {"features": self._flat(tensors)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the columns of `features`."""
        layout = self.layout
        channels = [*layout.known, *(("season's sine", "season's cosine") if layout.season > 1 else ())]
        names = [f"{layout.target} {back} back" for back in range(layout.length, 0, -1)]
        names += ["level", "scale"]
        steps = ["mean", *(f"{back} back" for back in range(self.back, 0, -1))]
        steps += [f"step {h + 1}" for h in range(layout.horizon)]
        names += [f"{channel} {step}" for step in steps for channel in channels]
        for name, values in zip(layout.static, self.categories, strict=True):
            names += [f"{name}={value}" for value in values[:ONE_HOT]]
        return tuple(names)

    def _flat(self, tensors: Mapping[str, Array]) -> Array:
        found = [tensors["past"], tensors["level"][:, None], tensors["scale"][:, None]]
        if self.layout.channels:
            told = tensors["known"] * np.asarray(self.deviations) + self.means
            found.append(told.reshape(len(told), -1))
        start = RESERVED
        for place, values in enumerate(self.categories):
            found.append(tensors["static"][:, place : place + 1] == start + np.arange(len(values[:ONE_HOT])))
            start += len(values)
        return np.concatenate([one.astype(np.float32) for one in found], 1)

    def _known(self, column: Lists) -> Array:
        length = self.layout.length
        told = _shaped(column, self.layout)
        whole = np.einsum("bdk->bk", told[:, :length])  # four times as fast as a sum along the middle axis
        # Nearly always every number is there, and then nothing has to be counted.
        if np.isfinite(whole).all():
            mean = whole / np.float32(length)
        else:
            told = np.clip(told, -LARGEST, LARGEST)
            there = ~np.isnan(told[:, :length])
            with np.errstate(over="ignore"):
                mean = np.where(there, told[:, :length], 0.0).sum(1) / np.maximum(there.sum(1), 1)
            mean = np.where(there.any(1), mean, np.nan)
        told = np.concatenate([mean[:, None], told[:, length - self.back :]], 1)
        told -= np.asarray(self.means, np.float32)
        told /= np.asarray(self.deviations, np.float32)
        np.clip(told, -LIMIT, LIMIT, out=told)
        if np.isnan(told).any():
            told = np.nan_to_num(told, copy=False, nan=0.0)
        return np.asarray(told, np.float32)

    @cached_property
    def _ids(self) -> tuple[dict[str, int], ...]:
        """Of every static column: value -> id."""
        found, start = [], RESERVED
        for values in self.categories:
            found.append({"": 0, **{value: start + place for place, value in enumerate(values)}})
            start += len(values)
        return tuple(found)

    def _static(self, column: Lists) -> Array:
        """Ids of one table, int64 (B, C): 0 nothing told, 1 unknown."""
        count = len(self.layout.static)
        counts = np.diff(column.offsets)
        full = counts == count
        if (~full & (counts > 0)).any():
            raise UserError(f"'static' has {int(counts[~full].max())} values in a row; {count} were wanted")
        ids = np.zeros((len(column), count), np.int64)
        said = column.values if full.all() else [v for row in np.flatnonzero(full).tolist() for v in column[row]]
        for place, known in enumerate(self._ids):
            ids[full, place] = [known.get(value, UNKNOWN) for value in said[place::count]]
        return ids

    @property
    def raw(self) -> tuple[Column, ...]:
        """The columns of a file of history that questions are made of."""
        layout = self.layout
        return (
            Column(layout.series, "series", "text"),
            Column(layout.time, "time", "time" if layout.dated else "integer"),
            Column(layout.target, "target", "number"),
            *(Column(name, "known", "number") for name in layout.known),
            *(Column(name, "static", "text") for name in layout.static),
        )

    def questions(self, table: pa.Table) -> pa.Table:
        """A history as questions: of every series, the periods after the last with demand.

        Args:
            table: with the columns of `raw`, in any order of dates. Where numbers are known of the dates asked about,
                their rows follow, with empty demand.

        Raises:
            UserError: as `grid_of` says; a series without any demand, or without the numbers of a date asked about.
        """
        grid = grid_of(table, self.layout)
        _, last = grid.ends
        mute = [grid.names[s] for s in np.flatnonzero(last < 0)]
        if mute:
            told = f"{len(mute)} of {len(grid.names)} series have no demand to forecast from, such as {mute[0]!r}"
            raise UserError(f"{told}; leave them out, or forecast them by hand")
        if self.layout.known:
            self._check_future(grid, last)
        return grid.windows(np.arange(len(grid.names)), last)

    def _check_future(self, grid: Grid, last: Array) -> None:
        for step in range(1, self.layout.horizon + 1):
            place = last + step
            inside = place < grid.row.shape[1]
            told = inside & (grid.row[np.arange(len(last)), np.minimum(place, grid.row.shape[1] - 1)] >= 0)
            if not told.all():
                at = int(np.flatnonzero(~told)[0])
                date = self.layout.frequency.dates(grid.first + place[at : at + 1])[0]
                raise UserError(
                    f"{int((~told).sum())} of {len(told)} series have no row for a date asked about, such as "
                    f"{grid.names[at]!r} on {date}; add one, its {self.layout.target} empty, with "
                    f"{', '.join(self.layout.known)}"
                )

    def _keys(self) -> dict[str, Any]:
        return {
            "layout": asdict(self.layout),
            "scaling": self.scaling,
            "means": self.means,
            "deviations": self.deviations,
            "categories": self.categories,
            "back": self.back,
            "form": self.form,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of the layout and all that was fitted."""
        return fingerprint("windows", 1, **self._keys())

    def save(self, folder: Path) -> dict[str, Any]:
        """One JSON file."""
        name = f"windows-{self.fingerprint[:8]}.json"
        (folder / name).write_text(json.dumps(self._keys(), ensure_ascii=False), encoding="utf-8")
        return {"file": name}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Windows:
        """Read what `save` wrote."""
        said = json.loads((folder / settings["file"]).read_text(encoding="utf-8"))
        return cls(Layout.load(said.pop("layout")), **said)


def _wide(column: Lists, width: int) -> Array:
    """All rows' numbers, float64 (N, width)."""
    return np.asarray(column.values, np.float64).reshape(-1, width)


def _latest(column: Lists, length: int) -> Array:
    """The latest `length` of each list, float64 (B, length), the latest last; NaN before the first."""
    counts = np.diff(column.offsets)
    if len(counts) and (counts == length).all():
        return np.asarray(column.values, np.float64).reshape(-1, length)
    kept = np.minimum(counts, length)
    whole = np.full((len(column), length), np.nan)
    rows = np.repeat(np.arange(len(column)), kept)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(kept) - kept, kept)
    values = np.asarray(column.values, np.float64)
    whole[rows, length - kept[rows] + within] = values[column.offsets[1:][rows] - kept[rows] + within]
    return whole


def _shaped(column: Lists, layout: Layout) -> Array:
    """What is known of each date, float32 (B, L + H, K); NaN for a row that says nothing.

    Raises:
        UserError: a row says another count of numbers.
    """
    dates, wanted = layout.length + layout.horizon, (layout.length + layout.horizon) * layout.channels
    counts = np.diff(column.offsets)
    if len(counts) and (counts == wanted).all():
        # A float64 beyond float32 becomes infinite, which is drawn in later.
        with np.errstate(over="ignore"):
            return np.asarray(column.values, np.float32).reshape(len(column), dates, layout.channels)
    wrong = (counts != wanted) & (counts > 0)
    if wrong.any():
        raise UserError(
            f"'known' has {int(counts[wrong][0])} numbers in a row; {wanted} were wanted: {layout.channels} of each of "
            f"{layout.length} dates looked back on and {layout.horizon} asked about"
        )
    whole = np.full((len(column), wanted), np.nan, np.float32)
    with np.errstate(over="ignore"):
        whole[counts > 0] = np.asarray(column.values).reshape(-1, wanted)
    return whole.reshape(len(column), dates, layout.channels)
