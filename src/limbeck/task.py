"""What a business question is: how it makes its problem of real rows, and how it judges a predictor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from limbeck.types import Array, Axis, Batch, Kind, Predictor, Rows, Signals, fingerprint


@dataclass(frozen=True)
class Source:
    """What a row source brings: the main table, and side tables such as the items' titles.

    Args:
        rows: the main table, with its roles.
        sides: name (`item`, `user`) -> table.
        facts: what a reader should know of it: licence, counts, what was left out.
    """

    rows: Rows
    sides: Mapping[str, pa.Table] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """A task on real rows, split.

    Args:
        train, validation, test: rows that are never shared; test rows decide nothing but the table.
        axis: what the positions of the main signal mean; known from training rows only.
        reads: the columns a student may read.
        unlabelled: rows without a target, which only a teacher can make useful.
        facts: counts for the report (duplicates dropped, test targets unknown in training, ...).
        columns: what the recipe says of a table's columns: name -> kind, or kind and settings; of windows that were
            cut of series, under `windows`, how; of customers made of transactions, under `customers`, how.
    """

    train: Rows
    validation: Rows
    test: Rows
    axis: Axis
    reads: tuple[str, ...]
    unlabelled: Rows | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of its rows, axis and columns."""
        parts = (self.train, self.validation, self.test, self.unlabelled)
        return fingerprint(
            "problem",
            1,
            rows=[None if rows is None else rows.fingerprint for rows in parts],
            axis=self.axis.fingerprint,
            reads=self.reads,
            **({"columns": dict(self.columns)} if self.columns else {}),
        )


@dataclass(frozen=True)
class Judgement:
    """What judging a predictor found, row by row in the order of the rows.

    Args:
        metrics: name -> value over all rows judged.
        unit: int64 (N,), what is paired between two judgements: the user or the row id.
        columns: name -> (N, ...) array; the task's metrics are functions of these. From
            `probabilities` (N, C) and `label` (N,) the report draws how reliable they are.
        slices: slice -> metric -> value, with the count under `n`.
        top: int64 (N, K), the answer in the axis' positions, best first, for agreement.
    """

    metrics: Mapping[str, float]
    unit: Array
    columns: Mapping[str, Array]
    slices: Mapping[str, Mapping[str, float]]
    top: Array

    def save(self, folder: Path) -> None:
        """Write `judgement.json` and `judgement.npz` (no objects, so nothing is pickled)."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"unit": self.unit, "top": self.top, **{f"column.{k}": v for k, v in self.columns.items()}}
        with (folder / "judgement.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        text = json.dumps({"metrics": dict(self.metrics), "slices": {k: dict(v) for k, v in self.slices.items()}})
        (folder / "judgement.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Judgement:
        """Read what `save` wrote."""
        said = json.loads((folder / "judgement.json").read_text(encoding="utf-8"))
        with np.load(folder / "judgement.npz", allow_pickle=False) as arrays:
            columns = {k.removeprefix("column."): arrays[k] for k in arrays.files if k.startswith("column.")}
            return Judgement(said["metrics"], arrays["unit"], columns, said["slices"], arrays["top"])


def top_apart(one: Judgement, other: Judgement) -> Array:
    """The share of the first's best answers that the second does not have among its own, (N,)."""
    there = one.top >= 0
    lost = there & ~(one.top[:, :, None] == other.top[:, None, :]).any(2)
    return np.asarray(lost.sum(1) / np.maximum(there.sum(1), 1))


@dataclass(frozen=True)
class Task:
    """One business question.

    Args:
        name: as in the recipe.
        roles: the roles its rows must have; `optional_roles` those it can use. Others are refused.
        signal: the main signal and its kind; the long axis is `Problem.axis`.
        beside: what a predictor may say beside it, such as quantiles: name -> kind, and how many numbers for each
            position of the axis.
        prepare: (source, part of every row, options) -> problem. The part of a row is 0 train,
            1 validation, 2 test, 3 left out.
        targets: (rows, problem) -> the arrays its hard loss reads, first axis the row; unlabelled
            rows carry targets that the hard loss skips.
        hard: the name of its hard loss.
        metrics: name -> function of a judgement's columns; the first is the headline. They are means over
            rows as they are: a row's `weight` is for training only.
        judge: (predictor, rows, problem) -> judgement.
        higher_is_better: of the headline.
        chance: the headline of a blind guess where that is known (.5 for AUC), else none.
        baselines: names of the models it calls trivial.
        answer: (signals, axis, batch, how many) -> one answer a row, for people and servers.
        options: the settings `prepare` takes, with their defaults.
        same: (rows, options) -> one text a row (an Arrow array of `large_string`): equal where two rows are the same
            to whoever reads them, null where a row cannot be read and the options say to skip it. By it `prepare`
            finds duplicates, and rows from elsewhere are kept apart from those that judge; none where no two are alike.
        takes_unlabelled: whether a row whose label is missing may feed distillation; else it is refused.
        show: (problem, judgement, i) -> what row i wanted (`truth`) and was told (`answer`), in words,
            and where there is one the probability of the truth (`p`).
        apart: (judgement, judgement) -> how far two predictors' answers are apart, (N,) in [0, 1].
        draft: (rows, role -> column) -> the lines of a first recipe below its data; none where one
            cannot be guessed.
        fits: (rows, role -> column) -> whether rows with its roles ask this very question; none where roles say all.
        rails: metric -> the lowest and the highest value at which a student may be trusted; the verdict tells of those
            outside.
    """

    name: str
    roles: tuple[str, ...]
    signal: tuple[str, Kind]
    prepare: Callable[[Source, Array, Mapping[str, Any]], Problem]
    targets: Callable[[Rows, Problem], dict[str, Array]]
    hard: str
    metrics: Mapping[str, Callable[[Mapping[str, Array]], float]]
    judge: Callable[[Predictor, Rows, Problem], Judgement]
    baselines: tuple[str, ...]
    answer: Callable[[Signals, Axis, Batch, int], list[dict[str, Any]]]
    show: Callable[[Problem, Judgement, int], dict[str, Any]]
    higher_is_better: bool = True
    chance: float | None = None
    optional_roles: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    same: Callable[[Rows, Mapping[str, Any]], pa.Array] | None = None
    takes_unlabelled: bool = False
    apart: Callable[[Judgement, Judgement], Array] = top_apart
    draft: Callable[[Rows, Mapping[str, str]], Iterable[str]] | None = None
    beside: Mapping[str, tuple[Kind, int]] = field(default_factory=dict)
    fits: Callable[[Rows, Mapping[str, str]], bool] | None = None
    rails: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The metric that decides: the first."""
        return next(iter(self.metrics))


def columns_mean(name: str) -> Callable[[Mapping[str, Array]], float]:
    """The metric that is the mean of one column."""

    def mean(columns: Mapping[str, Array]) -> float:
        return float(np.mean(columns[name])) if len(columns[name]) else float("nan")

    mean.is_mean = name  # type: ignore[attr-defined]  # lets the paired test average before pairing
    return mean


def sliced(
    metrics: Mapping[str, Callable[[Mapping[str, Array]], float]],
    columns: Mapping[str, Array],
    masks: Mapping[str, Array],
    wanted: Sequence[str],
) -> dict[str, dict[str, float]]:
    """The wanted metrics over the rows of every mask."""
    answer = {}
    for name, mask in masks.items():
        part = {key: value[mask] for key, value in columns.items()}
        answer[name] = {"n": float(mask.sum()), **({w: metrics[w](part) for w in wanted} if mask.any() else {})}
    return answer
