"""Lifetime value: how often will each customer buy in the time to come, or how much will they spend?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import parts
from limbeck.chunk import persons
from limbeck.customers import AGO, Layout, Visits, moments, told, visits
from limbeck.draft import distinct, epochs_for, line
from limbeck.errors import UserError, counted
from limbeck.split import LEFT_OUT, PARTS
from limbeck.task import Judgement, Problem, Source, Task, sliced
from limbeck.types import Array, Axis, Batch, Predictor, Rows, Signals, fingerprint

CHUNK = 4096
"""Customers a call when judging."""
DISTRIBUTION = 3
"""Parameters of a zero-inflated log-normal distribution."""
STEPS, BATCH = 200, 256
"""Steps that a drafted recipe takes at least, and the customers of each."""
FEW = 5000
"""Customers below which a drafted teacher has no hidden layers: of 1,414 of CDNOW's it learnt less than Pareto/NBD."""
RAIL = (-0.12, 0.12)
"""How far the sum over all customers may be off before a budget built on it is wrong."""


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Customers at a cut in time: what they bought until then is known, what they bought after it is asked.

    A row is a customer who came before the cut (or on its very day). All transactions of a customer must be in one
    part, so that nobody is both learnt from and judged by; those left out by the split are left out here.

    Options:
        cut: the last day (or moment) that is known; by default the middle between the first and the last.
        horizon: days (or units of the time) behind it in which purchases count; by default all that is there.
        target: `purchases` (days with a purchase), or `dollars`: the sum of what they paid, in any currency.

    Raises:
        UserError: a customer in two parts, nothing after the cut, or as `visits` says.
    """
    part = np.asarray(part, np.int64)
    kept = np.flatnonzero(part != LEFT_OUT)
    rows, part = source.rows.take(kept), part[kept]
    layout, cut = _layout(rows, options)
    found = visits(rows.table, layout)
    whose = _parts(rows, part, found)
    table, who = found.until(cut, layout)
    table = table.append_column("wanted", pa.array(found.after(cut, layout)[who]))
    ours = fingerprint(
        "customers",
        1,
        rows=rows.fingerprint,
        parts=hashlib.sha256(part.tobytes()).hexdigest(),
        layout=asdict(layout),
        cut=cut,
    )
    id = (persons(list(np.array(found.names, object)[who])) >> np.uint64(1)).astype(np.int64)
    assert len(np.unique(id)) == len(id), "63 bits tell customers apart"
    whole = Rows(table, id, ours, {"user": "user"})
    made = [whole.take(np.flatnonzero(whose[who] == p)) for p in range(len(PARTS))]
    for name, some in zip(PARTS, made, strict=True):
        _check(some, name, cut, layout)
    facts = {**source.facts, **_facts(found, layout, cut, made)}
    axis = Axis("value", (f"{layout.target} within {layout.horizon}",))
    reads = ("user", *layout.columns)
    return Problem(made[0], made[1], made[2], axis, reads, None, facts, {"customers": asdict(layout)})


def _layout(rows: Rows, options: Mapping[str, Any]) -> tuple[Layout, int]:
    name = rows.role("time")
    dated = pa.types.is_temporal(rows.table.schema.field(name).type)
    time = moments(rows.table, name, dated=dated)
    first, last = int(time.min()), int(time.max())
    cut = (first + last) // 2 if options["cut"] is None else _moment(options["cut"], dated=dated)
    if not first <= cut < last:
        raise UserError(
            f"options.cut is {told(cut, dated=dated)}; purchases before it and after it were wanted, and they lie "
            f"between {told(first, dated=dated)} and {told(last, dated=dated)}"
        )
    horizon = options["horizon"] if options["horizon"] is not None else last - cut
    if isinstance(horizon, bool) or not isinstance(horizon, int) or not 0 < horizon <= last - cut:
        raise UserError(
            f"options.horizon is {horizon!r}; a whole number of 1 to {last - cut} was wanted, for the last purchase "
            "lies so far behind the cut"
        )
    amount = rows.roles.get("amount")
    held = amount if isinstance(amount, str) else ""
    return Layout(rows.role("user"), name, held, dated, horizon, options["target"]), cut


def _moment(said: Any, *, dated: bool) -> int:
    """A cut as the time column counts."""
    if not dated:
        if isinstance(said, bool) or not isinstance(said, int):
            raise UserError(f"options.cut is {said!r}, but the time column holds numbers; write a whole number")
        return said
    try:
        return (date.fromisoformat(str(said)) - date(1970, 1, 1)).days
    except ValueError:
        raise UserError(f"options.cut is {said!r}; a date such as 2024-01-31 was wanted") from None


def _parts(rows: Rows, part: Array, found: Visits) -> Array:
    """The part of every customer, int64 (C,)."""
    text = rows.table.column(rows.role("user")).combine_chunks().cast(pa.string())
    owner = pc.index_in(text, value_set=pa.array(found.names)).to_numpy()
    low, high = np.full(len(found.names), LEFT_OUT), np.full(len(found.names), -1)
    np.minimum.at(low, owner, part)
    np.maximum.at(high, owner, part)
    both = np.flatnonzero(low != high)
    if len(both):
        raise UserError(
            f"{counted(len(both), 'customer')} of {len(low)}, such as {found.names[both[0]]!r}, have transactions in "
            f"two parts; split by customer: `split: {{kind: group, by: {rows.role('user')}}}`"
        )
    return high


def _check(rows: Rows, name: str, cut: int, layout: Layout) -> None:
    day = told(cut, dated=layout.dated)
    if not len(rows):
        raise UserError(f"no {name} customer came until {day}; set options.cut later, or bring more customers")
    if not np.asarray(rows.column("wanted")).any():
        raise UserError(
            f"no {name} customer is worth anything within {layout.horizon} after {day}; set options.cut earlier, "
            "options.horizon higher, or bring more customers"
        )


def _facts(found: Visits, layout: Layout, cut: int, made: list[Rows]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "target": layout.target,
        "known_until": told(cut, dated=layout.dated),
        "horizon": layout.horizon,
        "came_after_the_cut_left_out": int((found.first > cut).sum()),
        "purchases": len(found.time),
    }
    for name, rows in zip(PARTS, made, strict=True):
        wanted = np.asarray(rows.column("wanted"))
        facts[f"{name}_customers"] = len(rows)
        facts[f"{name}_share_that_comes_back"] = round(float((wanted > 0).mean()), 4)
    return facts


def targets(rows: Rows, problem: Problem) -> dict[str, Array]:
    """`values`: float32 (N, 1), what each customer wanted after the cut."""
    return {"values": np.asarray(rows.column("wanted"), np.float32)[:, None]}


def judge(predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """All customers.

    Raises:
        UserError: it says no value of a customer, or NaN.
    """
    said = [worth(predictor(batch.only(predictor.reads)), problem.axis) for batch in rows.batches(CHUNK)]
    columns = {"truth": np.asarray(rows.column("wanted"), np.float64), "values": np.concatenate(said)}
    metrics = {name: metric(columns) for name, metric in METRICS.items()}
    slices = sliced(METRICS, columns, _slices(rows), tuple(METRICS))
    slices = {name: {k: v for k, v in found.items() if np.isfinite(v)} for name, found in slices.items()}
    return Judgement(metrics, rows.id, columns, slices, np.zeros((len(rows), 0), np.int64))


def worth(said: Signals, axis: Axis) -> Array:
    """What is said of each customer, float64 (B,)."""
    if "values" not in said:
        raise UserError(f"what customers are worth is said in 'values'; there are: {', '.join(said) or 'none'}")
    values = np.asarray(said["values"], np.float64)
    if values.ndim != 2 or values.shape[1] != len(axis):
        raise UserError(f"'values' has shape {values.shape}; one number a customer was wanted, (B, 1)")
    if not np.isfinite(values).all():
        raise UserError("the values hold NaN or infinite numbers; customers cannot be ordered by them")
    return values[:, 0]


def _slices(rows: Rows) -> dict[str, Array]:
    """By whether customers came again before the cut, and by how long ago they were there."""
    ago = rows.column(AGO)
    often = np.diff(ago.offsets)
    last = np.asarray(ago.values)[ago.offsets[1:] - 1]
    middle = float(np.median(last))
    return {
        "bought once": often == 1,
        "bought again": often > 1,
        "there lately": last <= middle,
        "there long ago": last > middle,
    }


def answer(said: Signals, axis: Axis, batch: Batch, top: int) -> list[dict[str, Any]]:
    """What each customer will want, and where it is said, the chance that they come back at all."""
    values = worth(said, axis)
    chances = None
    if "distribution" in said:
        odds = np.asarray(said["distribution"], np.float64)[:, 0, 0]
        chances = 1.0 / (1.0 + np.exp(-np.clip(odds, -50.0, 50.0)))
    return [
        {
            **({"user": batch["user"][row]} if "user" in batch else {}),
            "value": float(f"{values[row]:.7g}"),
            **({} if chances is None else {"comes_back": round(float(chances[row]), 6)}),
        }
        for row in range(len(values))
    ]


def show(problem: Problem, judgement: Judgement, i: int) -> dict[str, Any]:
    """What a customer wanted, and what was said."""
    return {"truth": f"{judgement.columns['truth'][i]:.4g}", "answer": f"{judgement.columns['values'][i]:.4g}"}


def apart(one: Judgement, other: Judgement) -> Array:
    """How far two values are apart beside what they say, (N,): 0 alike, 1 as far as can be."""
    first, second = one.columns["values"], other.columns["values"]
    whole = np.abs(first) + np.abs(second)
    return np.divide(np.abs(first - second), whole, out=np.zeros(len(whole)), where=whole > 0)


def _metric(name: str, *, resampled: bool = True) -> Callable[[Mapping[str, Array]], float]:
    def value(columns: Mapping[str, Array]) -> float:
        return float(getattr(parts.get("metrics", "worth"), name)(columns["truth"], columns["values"]))

    def quick(columns: Mapping[str, Array]) -> Callable[[Array], float]:
        found: Callable[[Array], float] = getattr(parts.get("metrics", "worth"), f"resampled_{name}")(
            columns["truth"], columns["values"]
        )
        return found

    # Customers drawn twice make tenths uneven, which would only add to the error.
    value.resampled = quick if resampled else None  # type: ignore[attr-defined]  # lets the intervals sort once
    return value


METRICS: dict[str, Callable[[Mapping[str, Array]], float]] = {
    "gini": _metric("gini"),
    "rmse": _metric("rmse"),
    "bias": _metric("bias"),
    "tenth_error": _metric("tenth_error", resampled=False),
}


def fits(rows: Rows, roles: Mapping[str, str]) -> bool:
    """Whether rows ask this question: customers who come again and pay, and nothing that tells what they bought."""
    others = {"item", "label", "text", "picture", "series"} & set(roles)
    return not others and "amount" in roles and len(rows) > 1.2 * distinct(rows, roles["user"])


def draft(rows: Rows, roles: Mapping[str, str]) -> Iterator[str]:
    """A cut in the middle, a network as teacher, and a small and a linear one as students."""
    if "split" in roles:
        yield from ("protocols:", "  - name: given", "    split: {kind: given}", "    splits: [0]", "")
    else:
        yield "protocols:"
        yield line("  - name: customers", "no customer is in two parts")
        yield f"    split: {{kind: group, by: {roles['user']!r}, shares: [6, 2, 2]}}"
        yield from ("    splits: [0]", "")
    dated = pa.types.is_temporal(rows.table.schema.field(roles["time"]).type)
    time = moments(rows.table, roles["time"], dated=dated)
    first, last = int(time.min()), int(time.max())
    cut = (first + last) // 2
    yield "options:"
    yield line(
        f"  cut: {told(cut, dated=dated)!r}" if dated else f"  cut: {cut}",
        "the last day that is known; what comes after is asked",
    )
    yield line(f"  horizon: {last - cut}", "how many days (or units of the time) after it count")
    yield line("  target: purchases", "or dollars: what they pay, in whatever currency")
    people = distinct(rows, roles["user"])
    yield from ("", "teacher:", line("  model: spending_network", "trained from nothing"))
    if people < FEW:
        yield line("  hidden: []", "so few customers are soon learnt by heart; a linear model is not led astray")
    else:
        yield from ("  hidden: [64, 32]", "  dropout: 0.1")
    yield ""
    yield from ("students:", "  - {model: spending_network, name: small, hidden: [8]}")
    yield from ("  - {model: spending_network, name: linear, hidden: []}", "", "objective:")
    yield line("  - {loss: hard, weight: 0.3}", "what customers really wanted")
    yield line("  - {loss: squared_error, signal: distribution, weight: 0.7}", "the teacher's distribution")
    epochs = epochs_for(STEPS, people * 3 // 5, BATCH, least=10)
    yield from ("", line("label: {dtype: float32}", "dollars may be too many for half as many bits"), "", "training:")
    yield from (f"  epochs: {epochs}", f"  batch_size: {BATCH}", "  learning_rate: 3.0e-3", "  schedule: linear")
    yield from (
        "  weight_decay: 0.01",
        line(f"  check_every: {epochs}", "one chosen before the last by order alone may be off in size"),
        "",
    )
    yield line("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


TASK = Task(
    name="value",
    roles=("user", "time"),
    optional_roles=("amount",),
    signal=("values", "values"),
    prepare=prepare,
    targets=targets,
    hard="zero_inflated_log_normal",
    metrics=METRICS,
    judge=judge,
    chance=0.0,
    baselines=("purchase_rate", "bg_nbd", "pareto_nbd"),
    answer=answer,
    show=show,
    apart=apart,
    draft=draft,
    fits=fits,
    beside={"distribution": ("values", DISTRIBUTION)},
    options={"target": "purchases", "cut": None, "horizon": None},
    rails={"bias": RAIL},
)
