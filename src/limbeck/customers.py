"""Transactions as customers: what each bought until a cut in time, and what after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from limbeck.errors import UserError, counted, few
from limbeck.series import codes, numbers, times
from limbeck.types import Array

AGO, AMOUNTS = "ago", "amounts"
"""The columns of a customer: how long before the cut each purchase was, the latest last, and what was paid for it."""
DAY = 24 * 3600 * 1_000_000
LARGEST = 1e12
"""Amounts beyond this are mistakes."""
Target = Literal["purchases", "dollars"]


@dataclass(frozen=True)
class Layout:
    """How a file of transactions is read, and what is asked of its customers.

    Args:
        user, time: columns.
        amount: the column of what was paid, in any currency; empty where there is none.
        dated: whether times are dates; they count in days then, and all that is bought on one day is one purchase.
        horizon: how far from the cut purchases count, in days or the time's own unit.
        target: `purchases`, or `dollars`: what is paid for them.
    """

    user: str
    time: str
    amount: str
    dated: bool
    horizon: int
    target: Target = "purchases"

    def __post_init__(self) -> None:
        if self.target not in get_args(Target):
            raise UserError(f"options.target is {self.target!r}; {' or '.join(get_args(Target))} was wanted")
        if self.target == "dollars" and not self.amount:
            raise UserError("options.target is dollars, and no column has the role 'amount'; name it under data.roles")

    @property
    def columns(self) -> tuple[str, ...]:
        """Of a customer, as models read them."""
        return (AGO, AMOUNTS) if self.amount else (AGO,)

    @staticmethod
    def load(said: Mapping[str, Any]) -> Layout:
        """From what `dataclasses.asdict` made of one."""
        return Layout(**said)


@dataclass(frozen=True)
class Visits:
    """Purchases of C customers, by customer and time; those of one moment are one.

    Args:
        names: of the customers, as text, (C,).
        owner: whose each purchase is, int64 (N,).
        time: in days or the time's own unit, int64 (N,).
        amount: what was paid, (N,); 0 where that is not known.
    """

    names: tuple[str, ...]
    owner: Array
    time: Array
    amount: Array

    @property
    def first(self) -> Array:
        """When each customer came, (C,)."""
        return self.time[np.searchsorted(self.owner, np.arange(len(self.names)))]

    def until(self, cut: int, layout: Layout) -> tuple[pa.Table, Array]:
        """What is known at a cut, its own moment included.

        Returns:
            A row a customer who came until then: `user`, `ago` and, where amounts are known, `amounts`; and which
            customers these are.
        """
        there = self.time <= cut
        owner, ago, amount = self.owner[there], cut - self.time[there], self.amount[there]
        who, counts = np.unique(owner, return_counts=True)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        columns = {"user": pa.array(self.names).take(pa.array(who))}
        columns[AGO] = pa.ListArray.from_arrays(offsets, pa.array(ago.astype(np.float64)))
        if layout.amount:
            columns[AMOUNTS] = pa.ListArray.from_arrays(offsets, pa.array(amount))
        return pa.table(columns), who

    def after(self, cut: int, layout: Layout) -> Array:
        """The target of all customers, float64 (C,): purchases within the horizon, or what is paid for them."""
        there = (self.time > cut) & (self.time <= cut + layout.horizon)
        worth = self.amount[there] if layout.target == "dollars" else None
        return np.bincount(self.owner[there], worth, minlength=len(self.names)).astype(np.float64)


def visits(table: pa.Table, layout: Layout) -> Visits:
    """Transactions in any order, as purchases.

    Raises:
        UserError: a row without a customer, a time or an amount, or with a negative or impossible amount.
    """
    names, owner = codes(table.column(layout.user), layout.user, of="customer")
    time = moments(table, layout.time, dated=layout.dated)
    amount = numbers(table, layout.amount) if layout.amount else np.zeros(len(time))
    for wrong, mend in (
        (np.isnan(amount), "is empty; mend or drop such rows"),
        (np.abs(amount) > LARGEST, f"is beyond {LARGEST:g}; mend or drop such rows"),
        (amount < 0, "is negative; returns are no purchases: drop them, or take them off the purchase they belong to"),
    ):
        at = np.flatnonzero(wrong)
        if len(at):
            raise UserError(f"column '{layout.amount}' {mend}: {counted(len(at), 'row')}, the first {few(at.tolist())}")
    order = np.lexsort((time, owner))
    owner, time, amount = owner[order], time[order], amount[order]
    new = np.concatenate([[True], (owner[1:] != owner[:-1]) | (time[1:] != time[:-1])])
    place = np.cumsum(new) - 1
    return Visits(names, owner[new], time[new], np.bincount(place, amount) + 0.0)


def moments(table: pa.Table, name: str, *, dated: bool) -> Array:
    """A column of dates as days since 1970, or of whole numbers as they are, int64 (N,).

    Raises:
        UserError: it is neither, some are empty, or it holds the one where the other was wanted.
    """
    found = times(table, name)
    if pa.types.is_temporal(table.schema.field(name).type) != dated:
        wanted = "dates (2024-01-31)" if dated else "whole numbers"
        raise UserError(f"column '{name}' holds {table.schema.field(name).type} values; {wanted} were wanted")
    return found // DAY if dated else found


def told(moment: int, *, dated: bool) -> str:
    """A moment as the column has it.

    >>> told(10, dated=True), told(10, dated=False)
    ('1970-01-11', '10')
    """
    return str(np.datetime64(moment, "D")) if dated else str(moment)
