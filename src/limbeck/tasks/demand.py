"""Forecast demand: how much of each series will be wanted at each of the dates to come?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from limbeck import parts
from limbeck.chunk import persons
from limbeck.draft import distinct, epochs_for, line
from limbeck.errors import UserError, counted
from limbeck.rolling import check_time, facts_of, intermittent, no_question, parts_of_cells, questions, rows_of
from limbeck.series import LEVELS, Frequency, Layout, codes, grid_of, times
from limbeck.split import LEFT_OUT, PARTS
from limbeck.task import Judgement, Problem, Source, Task, columns_mean, sliced
from limbeck.types import Array, Axis, Batch, Predictor, Rows, Signals, fingerprint

CHUNK = 4096
"""Questions a call when judging."""
STEPS, BATCH = 1500, 256
"""Steps that a drafted recipe takes at least, and the questions of each."""
MOST = 400
"""Periods that a window looks back by itself at most."""


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Questions of rolling origins: what does a series want in the next `horizon` periods?

    A question stands at an origin, the last period that is known. It reads the `length` periods up to there, and what
    is known of the dates asked about. It belongs to the part (train, validation, test) that all its dates' rows belong
    to; one whose dates lie in several is left out, so no demand is both learnt from and judged by, and between parts
    there is a gap as long as horizons overlap.

    Options:
        horizon: periods asked about at once.
        length: periods looked back on; by default two seasons or horizons, at least 16, at most 400.
        season: periods of a season; by default those of the frequency, 1 for times that are numbers.
        frequency: hour, day, week, month, quarter or year, or a number; by default what lies between most dates.
        missing: a period without a row inside a series was not recorded (`mask`), or had no demand (`zero`).
        negative: demand below 0 is a mistake (`refuse`) or is not (`allow`).
        stride: of every so many training origins one is used.
        weigh: in training a `unit` of demand counts alike, or a `series` does, whatever its size.
    """
    rows = source.rows
    part = np.asarray(part, np.int64)
    kept = np.flatnonzero(part != LEFT_OUT)
    rows, part = rows.take(kept), part[kept]
    _check_options(options)
    layout = _layout(rows, options)
    grid = grid_of(rows.table, layout)
    if np.isnan(grid.demand).all():
        raise UserError(f"column '{layout.target}' is empty in every row; there is no demand to learn from")
    parts_of = parts_of_cells(grid, part)
    check_time(grid, parts_of)
    naive = parts.get("metrics", "forecast").naive_errors(grid.demand, parts_of == 0, season=layout.season)
    ours = fingerprint(
        "questions", 1, rows=rows.fingerprint, parts=hashlib.sha256(part.tobytes()).hexdigest(), options=dict(options)
    )
    series, origin, owner, facts = questions(grid, parts_of, int(options["stride"]))
    made = []
    for p, name in enumerate(PARTS):
        these = np.flatnonzero(owner == p)
        if not len(these):
            raise UserError(no_question(name, grid, parts_of == p))
        made.append(rows_of(grid, series[these], origin[these], naive, ours, by_series=options["weigh"] == "series"))
    facts = {**source.facts, **facts, **facts_of(grid, rows, parts_of, naive)}
    facts |= {f"{name}_questions": len(some) for name, some in zip(PARTS, made, strict=True)}
    axis = Axis("step", tuple(str(h) for h in range(1, layout.horizon + 1)))
    reads = ("series", "dates", "past", *(n for n in ("known", "static") if n in made[0].names))
    return Problem(made[0], made[1], made[2], axis, reads, None, facts, {"windows": asdict(layout)})


def _check_options(options: Mapping[str, Any]) -> None:
    allowed = {"missing": ("mask", "zero"), "negative": ("refuse", "allow"), "weigh": ("unit", "series")}
    for name, words in allowed.items():
        if options[name] not in words:
            raise UserError(f"options.{name} is {options[name]!r}; {' or '.join(words)} was wanted")
    for name in ("horizon", "stride", "length", "season"):
        value = options[name]
        left = value is None and name in ("length", "season")
        if not left and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"options.{name} is {value!r}; a whole number of 1 or more was wanted")


def _layout(rows: Rows, options: Mapping[str, Any]) -> Layout:
    time = times(rows.table, rows.role("time"))
    _, series = codes(rows.table.column(rows.role("series")), rows.role("series"))
    dated = pa.types.is_temporal(rows.table.schema.field(rows.role("time")).type)
    frequency = Frequency.of(time, series, dated=dated, said=options["frequency"])
    season = int(options["season"] or frequency.season)
    horizon = int(options["horizon"])
    return Layout(
        series=rows.role("series"),
        time=rows.role("time"),
        target=rows.role("target"),
        known=_several(rows, "known"),
        static=_several(rows, "static"),
        dated=dated,
        frequency=frequency,
        season=season,
        length=int(options["length"] or min(MOST, max(2 * season, 2 * horizon, 16))),
        horizon=horizon,
        missing=options["missing"],
        negative=options["negative"],
    )


def _several(rows: Rows, role: str) -> tuple[str, ...]:
    held = rows.roles.get(role, ())
    return (held,) if isinstance(held, str) else tuple(held)


def targets(rows: Rows, problem: Problem) -> dict[str, Array]:
    """`values`: float32 (N, H), 0 at steps that do not count; `mask`: bool (N, H), which do."""
    truth = _truth(rows, problem)
    there = np.isfinite(truth)
    return {"values": np.where(there, truth, 0.0).astype(np.float32), "mask": there}


def _truth(rows: Rows, problem: Problem) -> Array:
    return np.asarray(rows.column("targets").values, np.float64).reshape(len(rows), len(problem.axis))


def judge(predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """All questions; a predictor without quantiles is taken to be certain of its values.

    Raises:
        UserError: it says other steps than the task asks about, or NaN.
    """
    values, quantiles = [], []
    for batch in rows.batches(CHUNK):
        said = predictor(batch.only(tuple(name for name in predictor.reads if name in batch)))
        one, several = forecasts(said, problem.axis)
        values.append(one)
        quantiles.append(several)
    said_values, said_quantiles = np.concatenate(values), np.concatenate(quantiles)
    truth = _truth(rows, problem)
    naive = rows.column("naive_error")
    columns = _columns(truth, said_values, said_quantiles, naive)
    columns |= {"values": said_values, "truth": truth}
    metrics = {name: metric(columns) for name, metric in TASK.metrics.items()}
    unit = (persons(list(rows.column("series"))) >> np.uint64(1)).astype(np.int64)
    slices = _slices(rows, truth, columns, (said_values, said_quantiles, naive))
    return Judgement(metrics, unit, columns, slices, np.zeros((len(rows), 0), np.int64))


def forecasts(said: Signals, axis: Axis) -> tuple[Array, Array]:
    """Values (B, H) and quantiles (B, H, Q), float64."""
    if "values" not in said:
        raise UserError(f"a forecast says 'values'; there are: {', '.join(said) or 'none'}")
    values = np.asarray(said["values"], np.float64)
    if values.ndim != 2 or values.shape[1] != len(axis):
        raise UserError(f"'values' has shape {values.shape}; {len(axis)} steps a question were wanted")
    if "quantiles" in said:
        quantiles = np.asarray(said["quantiles"], np.float64)
        if quantiles.shape != (*values.shape, len(LEVELS)):
            raise UserError(f"'quantiles' has shape {quantiles.shape}; {len(LEVELS)} a step were wanted")
    else:
        quantiles = np.repeat(values[:, :, None], len(LEVELS), 2)
    if not (np.isfinite(values).all() and np.isfinite(quantiles).all()):
        raise UserError("the forecasts hold NaN or infinite numbers; nothing can be ordered by them")
    return values, quantiles


def _columns(truth: Array, values: Array, quantiles: Array, naive: Array) -> dict[str, Array]:
    found: dict[str, Array] = parts.get("metrics", "forecast").sums(
        truth, values, quantiles, levels=LEVELS, naive_error=naive
    )
    return found


def _slices(
    rows: Rows, truth: Array, columns: Mapping[str, Array], said: tuple[Array, Array, Array]
) -> dict[str, dict[str, float]]:
    """By step, by whether a window is intermittent, and by how much it wants."""
    values, quantiles, naive = said
    found: dict[str, dict[str, float]] = {}
    for h in range(truth.shape[1] if truth.shape[1] > 1 else 0):
        at = slice(h, h + 1)
        one = _columns(truth[:, at], values[:, at], quantiles[:, at], naive)
        there = np.isfinite(truth[:, h])
        found |= sliced(TASK.metrics, one, {f"step {h + 1}": there}, tuple(TASK.metrics))
    past = np.asarray(rows.column("past").values, np.float64).reshape(len(rows), -1)
    size = np.nan_to_num(np.abs(past)).sum(1) / np.maximum(np.isfinite(past).sum(1), 1)
    low, high = np.quantile(size, [1 / 3, 2 / 3])
    rare = intermittent(past)
    masks = {
        "least wanted third": size <= low,
        "middle third": (size > low) & (size <= high),
        "most wanted third": size > high,
    }
    if rare.any():
        masks |= {"intermittent": rare, "regular": ~rare}
    found |= sliced(TASK.metrics, columns, masks, tuple(TASK.metrics))
    return {name: {k: v for k, v in told.items() if np.isfinite(v)} for name, told in found.items()}


def answer(said: Signals, axis: Axis, batch: Batch, top: int) -> list[dict[str, Any]]:
    """For every series a forecast of each date, with its quantiles; all steps, whatever `top` is."""
    values, quantiles = forecasts(said, axis)
    return [
        {
            **({"series": batch["series"][row]} if "series" in batch else {}),
            "forecasts": [
                {
                    **({"date": batch["dates"][row][h]} if "dates" in batch and len(batch["dates"][row]) > h else {}),
                    "step": int(axis.values[h]),
                    "value": _rounded(values[row, h]),
                    "quantiles": {f"{at:g}": _rounded(q) for at, q in zip(LEVELS, quantiles[row, h], strict=True)},
                }
                for h in range(len(axis))
            ],
        }
        for row in range(len(values))
    ]


def _rounded(value: float) -> float:
    """Seven digits, which is what 32 bits hold."""
    return float(f"{value:.7g}")


def show(problem: Problem, judgement: Judgement, i: int) -> dict[str, Any]:
    """What was wanted at the first steps, and what was said."""
    truth, values = judgement.columns["truth"][i, :6], judgement.columns["values"][i, :6]
    return {
        "truth": ", ".join("not recorded" if np.isnan(v) else f"{v:.4g}" for v in truth),
        "answer": ", ".join(f"{v:.4g}" for v in values),
    }


def apart(one: Judgement, other: Judgement) -> Array:
    """How far two forecasts are apart beside what they say, (N,): 0 alike, 1 as far as can be."""
    first, second = one.columns["values"], other.columns["values"]
    difference = np.abs(first - second).sum(1)
    whole = np.abs(first).sum(1) + np.abs(second).sum(1)
    return np.divide(difference, whole, out=np.zeros(len(whole)), where=whole > 0)


def _quotient(name: str) -> Callable[[Mapping[str, Array]], float]:
    def value(columns: Mapping[str, Array]) -> float:
        forecast = parts.get("metrics", "forecast")
        top, bottom = forecast.QUOTIENTS[name]
        return float(forecast.quotient(columns[top], columns[bottom]))

    def resampled(columns: Mapping[str, Array]) -> Callable[[Array], float]:
        forecast = parts.get("metrics", "forecast")
        top, bottom = (columns[part] for part in forecast.QUOTIENTS[name])
        return lambda counts: float(forecast.quotient(counts * top, counts * bottom))

    value.resampled = resampled  # type: ignore[attr-defined]  # sums of counts: nothing has to be gathered
    return value


def fits(rows: Rows, roles: Mapping[str, str]) -> bool:
    """Whether series come again and again, with more than two numbers."""
    return len(rows) > 2 * distinct(rows, roles["series"]) and distinct(rows, roles["target"]) > 2


def draft(rows: Rows, roles: Mapping[str, str]) -> Iterator[str]:
    """A horizon that the dates allow, cuts that leave a few horizons each, a teacher and two students."""
    time = times(rows.table, roles["time"])
    _, series = codes(rows.table.column(roles["series"]), roles["series"])
    dated = pa.types.is_temporal(rows.table.schema.field(roles["time"]).type)
    frequency = Frequency.of(time, series, dated=dated, said=None)
    dates = np.unique(time)
    held = max(1, len(dates) // 8)
    season = frequency.season
    horizon = max(1, min(held, season if season > 1 else held // 2, 28))
    validation, test = frequency.dates(dates[[-2 * held, -held]], told=True) if len(dates) > 2 * held else ("", "")
    if "split" in roles:
        yield from ("protocols:", "  - name: given", "    split: {kind: given}", "    splits: [0]", "")
    elif not validation:
        found = counted(len(dates), "date")
        raise UserError(f"{found} in column '{roles['time']}' are too few to learn from and judge by")
    else:
        yield "protocols:"
        yield line("  - name: time_cut", f"the last {held} dates are the test, the {held} before choose")
        yield f"    split: {{kind: time_cut, cut: [{validation}, {test}]}}"
        yield from ("    splits: [0]", "")
    yield "options:"
    yield line(f"  horizon: {horizon}", f"periods to forecast at once; one is {frequency.name}")
    yield line(f"  season: {season}", "periods after which demand repeats itself; 1 for none")
    yield line("  missing: mask", "a period without a row was not recorded; zero: it had no demand")
    yield line("  weigh: series", "all series count alike in training; unit: large ones count more")
    yield from ("", "teacher:", line("  model: nhits", "trained from nothing"), "  hidden: 128", "")
    yield from ("students:", "  - {model: forecast_mlp, name: mlp, hidden: [64, 64]}")
    yield from ("  - {model: linear_forecast, name: linear, training: {learning_rate: 0.01}}", "", "objective:")
    yield line("  - {loss: hard, weight: 0.3}", "what was really wanted")
    yield line("  - {loss: quantile, weight: 0.7}", "the teacher's quantiles")
    # Not every origin has a whole window behind it and a whole horizon before it.
    count = max(1, len(rows) - distinct(rows, roles["series"]) * (horizon + 2 * held))
    epochs = epochs_for(STEPS, count, BATCH, least=5)
    yield from ("", line("label: {dtype: float32}", "demand may be too large for half as many bits"), "", "training:")
    yield line(f"  epochs: {epochs}", f"about {STEPS:,} steps over about {count:,} questions")
    yield from (f"  batch_size: {BATCH}", "  learning_rate: 1.0e-3", "  clip: 10.0")
    yield from (f"  check_every: {max(1, epochs // 10)}", "")
    yield line("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


TASK = Task(
    name="demand",
    roles=("series", "time", "target"),
    optional_roles=("known", "static"),
    signal=("values", "values"),
    prepare=prepare,
    targets=targets,
    hard="hard_quantile",
    metrics={
        "mae": columns_mean("absolute_error"),
        **{name: _quotient(name) for name in ("wape", "mase", "weighted_quantile_loss", "bias", "coverage")},
    },
    judge=judge,
    baselines=("last_value", "seasonal_naive", "zeros"),
    answer=answer,
    show=show,
    apart=apart,
    higher_is_better=False,
    draft=draft,
    fits=fits,
    beside={"quantiles": ("quantiles", len(LEVELS))},
    options={
        "horizon": 1,
        "length": None,
        "season": None,
        "frequency": None,
        "missing": "mask",
        "negative": "refuse",
        "stride": 1,
        "weigh": "unit",
    },
)
