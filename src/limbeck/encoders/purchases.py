"""What a customer bought so far: as the three numbers that models of buyers read, or as features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from limbeck.artifact import Column
from limbeck.customers import AGO, AMOUNTS, LARGEST, Layout, moments, visits
from limbeck.errors import UserError
from limbeck.types import Array, Lists, Rows, fingerprint

Form = Literal["bought", "features"]
FEW = 0.5
"""A purchase is added by so much before its logarithm, where there may be none."""
LONGEST = 1e6
"""Times before the cut beyond this measure nothing."""
LEAST = 1e-9
"""Features that vary less than this are constant."""


@dataclass(frozen=True)
class Start:
    """Of training customers: where a network begins.

    Args:
        share: of those who come back, in (0, 1).
        level, spread: mean and deviation of the logarithm of what these want.
    """

    share: float
    level: float
    spread: float

    @staticmethod
    def of(wanted: Array) -> Start:
        """Of the target (N,); a customer of either sort is added, so that none has a share of 0."""
        logs = np.log(wanted[wanted > 0])
        level = float(logs.mean()) if len(logs) else 0.0
        spread = float(logs.std()) if len(logs) else 0.0
        return Start((len(logs) + 1) / (len(wanted) + 2), level, max(spread, 0.1))


class Purchases:
    """Lists of purchases to tensors.

    Args:
        layout: of the transactions, and what is asked.
        form: `bought` or `features`.
        start: of training customers.
        bounds: of the features over training customers: `mean`, `scale`, and the range `low` to `high`, to which all
            are drawn.
    """

    kind = "purchases"
    column = AGO

    def __init__(
        self, layout: Layout, form: Form, start: Start, *, bounds: Mapping[str, tuple[float, ...]] | None = None
    ) -> None:
        self.layout = layout
        self.form: Form = form
        self.start = start
        self.bounds = dict(bounds or {})

    @staticmethod
    def fit(rows: Rows, layout: Layout, form: Form) -> Purchases:
        """Learn the features' means, deviations and ranges from training rows."""
        start = Start.of(rows.column("wanted"))
        bare = Purchases(layout, form, start)
        if form == "bought":
            return bare
        found = bare._features({name: rows.column(name) for name in bare.columns})
        scale = found.std(0)
        return Purchases(
            layout,
            form,
            start,
            bounds={
                "mean": tuple(found.mean(0).tolist()),
                "scale": tuple(np.where(scale > LEAST, scale, 1.0).tolist()),
                "low": tuple(found.min(0).tolist()),
                "high": tuple(found.max(0).tolist()),
            },
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """What it takes; `user` is for the answer only."""
        return ("user", *self.layout.columns)

    @property
    def raw(self) -> tuple[Column, ...]:
        """The columns of transactions, of which `questions` makes rows."""
        layout = self.layout
        paid = (Column(layout.amount, "amount", "number"),) if layout.amount else ()
        time = Column(layout.time, "time", "time" if layout.dated else "integer")
        return (Column(layout.user, "user", "text"), time, *paid)

    def questions(self, table: pa.Table) -> pa.Table:
        """Transactions as questions: what will every customer want after the last of them all?

        Args:
            table: with the columns of `raw`, in any order.

        Raises:
            UserError: as `visits` says.
        """
        found, _ = visits(table, self.layout).until(
            int(moments(table, self.layout.time, dated=self.layout.dated).max()), self.layout
        )
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""
        return (*TIMES, *SPENT) if self.layout.amount else TIMES

    def __call__(self, column: Mapping[str, Any]) -> dict[str, Array]:
        """`bought` float32 (B, 4), or `features` float32 (B, F).

        Four numbers are told of a customer: repeat purchases, when the last of them was (from the first purchase), how
        long ago the first purchase was, and the mean amount of the repeat purchases, 0 without any.

        Raises:
            UserError: the columns hold no lists of numbers, or lists of different lengths.
        """
        if self.form == "bought":
            return {"bought": _Known.of(column, self.layout).bought.astype(np.float32)}
        found = np.clip(self._features(column), self.bounds["low"], self.bounds["high"])
        return {"features": ((found - self.bounds["mean"]) / self.bounds["scale"]).astype(np.float32)}

    def _features(self, column: Mapping[str, Any]) -> Array:
        known = _Known.of(column, self.layout)
        found = _of_times(known, self.layout.horizon)
        return np.concatenate([found, _of_amounts(known)], 1) if self.layout.amount else found

    def _keys(self) -> dict[str, Any]:
        bounds = {name: list(value) for name, value in self.bounds.items()}
        return {"layout": asdict(self.layout), "form": self.form, "start": asdict(self.start), "bounds": bounds}

    @cached_property
    def fingerprint(self) -> str:
        """Of the layout, the form and all that was fitted."""
        return fingerprint("purchases", 1, **self._keys())

    def save(self, folder: Path) -> dict[str, Any]:
        """One JSON file."""
        name = f"purchases-{self.fingerprint[:8]}.json"
        (folder / name).write_text(json.dumps(self._keys()), encoding="utf-8")
        return {"file": name}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Purchases:
        """Read what `save` wrote."""
        said = json.loads((folder / settings["file"]).read_text(encoding="utf-8"))
        bounds = {name: tuple(value) for name, value in said["bounds"].items()}
        return cls(Layout.load(said["layout"]), said["form"], Start(**said["start"]), bounds=bounds)


@dataclass(frozen=True)
class _Known:
    """Purchases end to end, those of a customer from the first to the last.

    Args:
        row: whose each is, int64 (N,).
        ago: how long before the cut, (N,).
        amount: (N,); 0 where none is known.
        count: of each of B customers, int64 (B,).
    """

    row: Array
    ago: Array
    amount: Array
    count: Array

    @staticmethod
    def of(column: Mapping[str, Any], layout: Layout) -> _Known:
        """Those that lie at a known time before the cut; an unknown amount counts as 0."""
        lists = column[AGO]
        ago = _numbers(lists, AGO)
        amount = _numbers(column[AMOUNTS], AMOUNTS) if layout.amount else np.zeros(len(ago))
        row = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
        if layout.amount and not np.array_equal(lists.offsets, column[AMOUNTS].offsets):
            raise UserError(f"'{AGO}' and '{AMOUNTS}' differ in length; each purchase has a time and an amount")
        kept = np.flatnonzero(np.isfinite(ago) & (ago >= 0) & (ago <= LONGEST))
        kept = kept[np.lexsort((-ago[kept], row[kept]))]
        amount = np.clip(np.nan_to_num(amount, nan=0.0), 0.0, LARGEST)
        return _Known(row[kept], ago[kept], amount[kept], np.bincount(row[kept], minlength=len(lists)))

    def sums(self, values: Array) -> Array:
        """Of each customer's, (B,)."""
        return np.bincount(self.row, values, minlength=len(self.count))

    def at(self, values: Array, *, last: bool) -> Array:
        """Each customer's first or last, (B,); 0 of one without any."""
        ends = np.cumsum(self.count)
        place = np.clip(ends - 1 if last else ends - self.count, 0, max(len(values) - 1, 0))
        return np.where(self.count > 0, values[place] if len(values) else 0.0, 0.0)

    @property
    def repeat(self) -> Array:
        """Whether each purchase is not its customer's first, bool (N,)."""
        return np.concatenate([[False], self.row[1:] == self.row[:-1]])[: len(self.row)]

    @property
    def gap(self) -> Array:
        """From the purchase before, (N,); 0 of a first one."""
        before = np.concatenate([[0.0], self.ago[:-1]])[: len(self.ago)]
        return np.where(self.repeat, before - self.ago, 0.0)

    @property
    def bought(self) -> Array:
        """Repeat purchases, recency, age and the mean amount of repeat purchases, (B, 4)."""
        again = np.maximum(self.count - 1, 0)
        age = self.at(self.ago, last=False)
        mean = self.sums(self.amount * self.repeat) / np.maximum(again, 1)
        return np.stack([again, age - self.at(self.ago, last=True), age, mean], 1)


def _numbers(raw: Any, name: str) -> Array:
    if not isinstance(raw, Lists):
        raise UserError(f"column '{name}' holds one value a row; a list of numbers, one a purchase, was wanted")
    try:
        return np.asarray(raw.values, np.float64)
    except ValueError:
        raise UserError(f"column '{name}' holds lists of text; lists of numbers were wanted") from None


TIMES = (
    "log frequency", "log since last", "log age", "log recency", "log mean gap", "log last gap", "log gap deviation",
    "log rate", "log since last over mean gap", "log bought in the last quarter", "log bought in the last half",
    "bought once",
)  # fmt: skip
SPENT = ("log mean amount", "log total amount", "log last amount", "log largest amount", "log first amount")


def _of_times(known: _Known, horizon: float) -> Array:
    again, recency, age, _ = known.bought.T
    since = known.at(known.ago, last=True)
    gap = known.gap
    mean = np.where(again > 0, recency / np.maximum(again, 1), age)
    spread = np.sqrt(np.maximum(known.sums(gap**2) / np.maximum(again, 1) - mean**2, 0.0)) * (again > 0)
    last = np.where(again > 0, known.at(gap, last=True), age)
    recent = [known.sums((known.ago <= share * horizon).astype(np.float64)) for share in (0.25, 0.5)]
    columns = [
        *(np.log1p(one) for one in (again, since, age, recency, mean, last, spread)),
        np.log((again + FEW) / (age + FEW * horizon)),
        np.log((since + 1.0) / (mean + 1.0)),
        *(np.log1p(one) for one in recent),
        (again == 0).astype(np.float64),
    ]
    return np.stack(columns, 1)


def _of_amounts(known: _Known) -> Array:
    total = known.sums(known.amount)
    largest = np.zeros(len(known.count))
    np.maximum.at(largest, known.row, known.amount)
    told = (total / np.maximum(known.count, 1), total, known.at(known.amount, last=True), largest)
    return np.stack([np.log1p(one) for one in (*told, known.at(known.amount, last=False))], 1)
