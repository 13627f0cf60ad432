"""What every classification shares: labels of rows, the axis of classes, duplicates, and how a predictor is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import parts
from limbeck.encoder import as_text, lookup
from limbeck.errors import UserError, counted, few
from limbeck.split import PARTS, draws
from limbeck.task import Judgement, Problem, Source, sliced
from limbeck.types import Array, Axis, Batch, Predictor, Rows, Signals

RESAMPLED = ("auc", "accuracy", "log_loss", "macro_accuracy", "accuracy_at_coverage")
"""Metrics that know a quicker way to be drawn again and again."""

UNSEEN = 0.1
"""Share of a part's rows whose label may be missing from training before the split itself is at fault."""

LEFT_OUT = 3
LABELLED_SEED = 0
"""Of the draw of rows that keep their label: it is the same whatever the split."""


def divided(source: Source, part: Array, same: pa.Array | None, reads: str, options: Mapping[str, Any]) -> Problem:
    """A problem of rows with one label each.

    Of equal rows one is kept, in its own part: the labelled one of the smallest id (where none has a
    label, the one of the smallest id). Equal rows with different labels are all dropped.

    A row whose label is empty has none: among the training rows it becomes `unlabelled`, which only a
    teacher can make useful; elsewhere it is left out. Both are counted in the facts.

    Args:
        source: rows with the role `label`.
        part: of every row, int64 (N,): 0 train, 1 validation, 2 test, 3 left out.
        same: one text a row, equal for rows that are duplicates; none where they are to stay.
        reads: the column a student may read.
        options: `positive`, of two classes the one whose probability the AUC is about; it is the last of the
            axis. By default the last of the sorted labels. And `labelled`, how many training rows keep their label,
            drawn label by label; the others become unlabelled, as in a shop that has paid for few. By default all.
    """
    rows = source.rows
    label = labels(rows)
    part = np.array(part, np.int64)
    facts: dict[str, Any] = {"rows": int((part < LEFT_OUT).sum())}
    if same is not None:
        of = pc.fill_null(same, "").dictionary_encode().indices.to_numpy()
        facts |= _drop_duplicates(of, label, rows.id, part)
    if options["labelled"] is not None:
        facts |= _hide_labels(label, rows.id, part, options["labelled"])
    axis = _axis(label[(part == 0) & (label != "")], options["positive"])
    facts |= _drop_unseen(label, part, axis)
    made = [rows.take(np.flatnonzero((part == p) & (label != ""))) for p in range(LEFT_OUT)]
    for name, some in zip(PARTS, made, strict=True):
        if not len(some):
            raise UserError(
                f"no labelled {name} row is left of {counted(facts['rows'], 'row')}; mend the split or bring more rows"
            )
    bare = np.flatnonzero((part == 0) & (label == ""))
    facts |= {name: len(some) for name, some in zip(PARTS, made, strict=True)}
    facts |= {"unlabelled": len(bare), "unlabelled_outside_training_dropped": _count((part > 0) & (label == ""), part)}
    facts["classes"] = {value: int((label[part == 0] == value).sum()) for value in axis.values}
    unlabelled = _without_labels(rows.take(bare)) if len(bare) else None
    return Problem(made[0], made[1], made[2], axis, (reads,), unlabelled, {**source.facts, **facts})


def labels(rows: Rows) -> Array:
    """Labels as text, object (N,); empty where there is none."""
    column = rows.table.column(rows.role("label"))
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if pa.types.is_nested(whole.type):
        raise UserError(f"column '{rows.role('label')}' holds a list a row; a row has one label here")
    return np.asarray(pc.fill_null(as_text(whole), "").to_numpy(zero_copy_only=False), object)


def _without_labels(rows: Rows) -> Rows:
    """The rows with nothing in the column of labels: what is hidden from a teacher no loss may read."""
    at = rows.table.schema.get_field_index(rows.role("label"))
    field = rows.table.schema.field(at)
    return replace(rows, table=rows.table.set_column(at, field, pa.nulls(len(rows), field.type)))


def _drop_duplicates(of: Array, label: Array, id: Array, part: Array) -> dict[str, int]:
    """Leave out of `part`, in place, all that a row's one kept likeness makes superfluous; the counts."""
    there = np.flatnonzero(part < LEFT_OUT)
    first = there[np.lexsort((id[there], label[there] == "", of[there]))]
    extra = first[1:][of[first[1:]] == of[first[:-1]]]
    labelled = there[label[there] != ""]
    _, name = np.unique(label[labelled].astype(str), return_inverse=True)
    pairs = np.unique(np.stack([of[labelled], name], 1), axis=0)
    torn, times = np.unique(pairs[:, 0], return_counts=True)
    contradicting = there[np.isin(of[there], torn[times > 1])]
    part[extra] = LEFT_OUT
    part[contradicting] = LEFT_OUT
    return {
        "duplicates_dropped": len(np.setdiff1d(extra, contradicting)),
        "contradictions_dropped": len(contradicting),
    }


def _hide_labels(label: Array, id: Array, part: Array, count: Any) -> dict[str, int]:
    """Empty, in place, the labels of all training rows but `count`, each label's share kept; how many."""
    known = np.flatnonzero((part == 0) & (label != ""))
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= len(known):
        raise UserError(
            f"labelled is {count!r}; a number up to {len(known)}, the training rows with a label, was wanted"
        )
    _, kind = np.unique(label[known].astype(str), return_inverse=True)
    draw = draws(id[known], LABELLED_SEED)
    order = np.lexsort((draw, kind))
    size = np.bincount(kind)
    rank = np.arange(len(known)) - np.repeat(np.cumsum(size) - size, size)
    share = np.empty(len(known))
    share[order] = (rank + 0.5) / np.repeat(size, size)
    hidden = known[np.lexsort((draw, share))[count:]]
    label[hidden] = ""
    return {"labels_hidden": len(hidden)}


def _axis(label: Array, positive: str | None) -> Axis:
    """The labels of training rows in order: numbers by value, text by the alphabet, the positive one last."""
    found = set(label.tolist())
    numbers = all(value.lstrip("-").isdecimal() for value in found)
    values = sorted(found, key=int) if numbers else sorted(found)
    if len(values) < 2:
        only = f"only the label '{values[0]}'" if values else "no label"
        raise UserError(f"the training rows have {only}; telling classes apart needs two at least")
    if positive is not None:
        positive = str(positive)
        if positive not in values:
            raise UserError(f"positive is '{positive}', which no training row has; there are: {', '.join(values)}")
        if len(values) > 2:
            raise UserError(f"positive is for two classes, and there are {len(values)}; leave it out")
        values.sort(key=lambda value: value == positive)
    return Axis("label", tuple(values))


def _drop_unseen(label: Array, part: Array, axis: Axis) -> dict[str, Any]:
    """Leave out of `part`, in place, the rows whose label no training row has; the counts, and words where any."""
    unseen = (lookup(axis.values, label) < 0) & (label != "") & (part < LEFT_OUT)
    counts = {}
    for p, name in ((1, "validation"), (2, "test")):
        these = unseen & (part == p)
        counts[name] = int(these.sum())
        if counts[name] > UNSEEN * max(1, int((part == p).sum())):
            raise UserError(
                f"{counts[name]} of {int((part == p).sum())} {name} rows have labels that no training row has "
                f"({few(sorted(set(label[these].tolist())))}); split so that training rows have every label"
            )
    facts: dict[str, Any] = {"unseen_labels_dropped": counts}
    if unseen.any():
        names = few(sorted(set(label[unseen].tolist())))
        facts["unseen_labels"] = f"{counted(int(unseen.sum()), 'row')} left out: no training row has {names}"
    part[unseen] = LEFT_OUT
    return facts


def _count(mask: Array, part: Array) -> int:
    return int((mask & (part < LEFT_OUT)).sum())


def targets(rows: Rows, problem: Problem) -> dict[str, Array]:
    """`label`: int64 (N,), positions of the axis, -1 without a label."""
    return {"label": lookup(problem.axis.values, labels(rows))}


def judge(
    predictor: Predictor,
    rows: Rows,
    problem: Problem,
    *,
    order: Array,
    chunk: int,
    groups: Callable[[Rows], Mapping[str, Array]] | None = None,
) -> Judgement:
    """All labelled rows, each counting alike.

    Args:
        predictor: says logits or probabilities of the axis.
        rows: to judge on.
        problem: they belong to.
        order: int64 (N,), of asking: rows of like cost together.
        chunk: rows a call.
        groups: labelled rows -> slice -> whether a row belongs to it, beside the slices by label.

    Raises:
        UserError: the predictor speaks of other classes than the task, or says NaN.
    """
    label = targets(rows, problem)["label"]
    order = order[label[order] >= 0]
    kept = np.sort(order)
    place = np.searchsorted(kept, order)
    said = np.zeros((len(kept), len(problem.axis)))
    for start, batch in enumerate(rows.take(order).batches(chunk)):
        where = place[start * chunk : (start + 1) * chunk]
        said[where] = probabilities(predictor(batch.only(predictor.reads)), problem.axis)
    rows, label = rows.take(kept), label[kept]
    columns = {"label": label, "probabilities": said}
    metrics = {name: metric(columns) for name, metric in METRICS.items()}
    top = said.argmax(1)[:, None].astype(np.int64)
    return Judgement(metrics, rows.id, columns, _slices(columns, groups(rows) if groups else {}, problem.axis), top)


def probabilities(said: Signals, axis: Axis) -> Array:
    """Probabilities of the classes, float64 (B, C), from logits or probabilities."""
    name = "logits" if "logits" in said else next((n for n in said if said.kinds.get(n) == "probabilities"), None)
    if name is None:
        raise UserError(f"classes need the signal 'logits', or probabilities; there are: {', '.join(said) or 'none'}")
    values = np.asarray(said[name], np.float64)
    if values.ndim != 2 or values.shape[1] != len(axis):
        classes = values.shape[1] if values.ndim == 2 else 1
        raise UserError(f"'{name}' says {counted(classes, 'class')}, the task has {len(axis)} ({few(axis.values)})")
    if np.isnan(values).any():
        raise UserError(f"'{name}' holds NaN; no class can be read from it")
    if said.kinds[name] == "probabilities":
        return values
    values = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(values / values.sum(1, keepdims=True))


def _slices(columns: Mapping[str, Array], groups: Mapping[str, Array], axis: Axis) -> dict[str, dict[str, float]]:
    found = sliced(METRICS, columns, groups, tuple(METRICS))
    by_label = {f"label {axis.title(c)}": columns["label"] == c for c in range(len(axis))}
    found |= sliced(METRICS, columns, by_label, ("accuracy", "log_loss"))
    return {name: {k: v for k, v in told.items() if np.isfinite(v)} for name, told in found.items()}


def answer(said: Signals, axis: Axis, batch: Batch, top: int) -> list[dict[str, Any]]:
    """The likeliest label of every row, and the `top` likeliest with their probabilities."""
    likely = probabilities(said, axis)
    best = np.argsort(-likely, axis=1, kind="stable")[:, : max(1, top)]
    return [
        {
            "label": axis.values[order[0]],
            "labels": [
                {"label": axis.values[c], "title": axis.title(c), "probability": round(float(row[c]), 6)} for c in order
            ],
        }
        for row, order in zip(likely, best.tolist(), strict=True)
    ]


def show(problem: Problem, judgement: Judgement, i: int) -> dict[str, Any]:
    """The label, the likeliest one, and how likely the true one was said to be."""
    truth = int(judgement.columns["label"][i])
    return {
        "truth": problem.axis.title(truth),
        "answer": problem.axis.title(int(judgement.top[i, 0])),
        "p": float(judgement.columns["probabilities"][i, truth]),
    }


def apart(one: Judgement, other: Judgement) -> Array:
    """Total variation between two predictors' probabilities, (N,)."""
    return np.asarray(np.abs(one.columns["probabilities"] - other.columns["probabilities"]).sum(1) / 2)


def _metric(file: str, name: str) -> Callable[[Mapping[str, Array]], float]:
    def value(columns: Mapping[str, Array]) -> float:
        return float(getattr(parts.get("metrics", file), name)(columns["probabilities"], columns["label"]))

    def resampled(columns: Mapping[str, Array]) -> Callable[[Array], float]:
        quick: Callable[[Array], float] = getattr(parts.get("metrics", file), f"resampled_{name}")(
            columns["probabilities"], columns["label"]
        )
        return quick

    if name in RESAMPLED:
        value.resampled = resampled  # type: ignore[attr-defined]  # lets the intervals sort once
    return value


METRICS: dict[str, Callable[[Mapping[str, Array]], float]] = {
    "auc": _metric("classification", "auc"),
    "accuracy": _metric("classification", "accuracy"),
    "macro_accuracy": _metric("classification", "macro_accuracy"),
    "accuracy@80%": _metric("classification", "accuracy_at_coverage"),
    "macro_f1": _metric("classification", "macro_f1"),
    "log_loss": _metric("classification", "log_loss"),
    "ece": _metric("calibration", "ece"),
}


def headed(name: str) -> dict[str, Callable[[Mapping[str, Array]], float]]:
    """All metrics, this one first: the first decides."""
    return {name: METRICS[name], **METRICS}
