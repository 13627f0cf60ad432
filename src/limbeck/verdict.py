"""Side by side: confidence intervals, paired tests, and what was kept, in one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from limbeck.task import Judgement, Task
from limbeck.types import Array

RESAMPLES = 1000
LEVEL = 0.95

Metric = Callable[[Mapping[str, Array]], float]


@dataclass(frozen=True)
class Spread:
    """A metric over splits and seeds.

    Args:
        mean, sd: over splits and seeds; one judgement has no deviation.
        low, high: 95% percentile interval over the rows (users) judged; NaN for a metric that resampling biases.
    """

    mean: float
    sd: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """A difference over the same rows.

    Args:
        difference: mean of the first less the second.
        low, high: 95% percentile interval.
        p_value: two-sided; Wilcoxon over units for means, bootstrap otherwise.
    """

    difference: float
    low: float
    high: float
    p_value: float


def spread(metric: Metric, judged: Sequence[Judgement], *, seed: int = 0) -> Spread:
    """A metric of one predictor over its judgements (one a split and seed)."""
    values = [metric(j.columns) for j in judged]
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    # A metric whose `resampled` is none cannot be drawn again without bias, and has no interval.
    drawn = getattr(metric, "resampled", True) is not None
    low, high = _interval(_draws(metric, [judged], seed)[:, 0]) if drawn else (math.nan, math.nan)
    return Spread(float(np.mean(values)), sd, low, high)


def paired(metric: Metric, first: Sequence[Judgement], second: Sequence[Judgement], *, seed: int = 0) -> Paired:
    """Compare two predictors judged on the same rows, split by split and seed by seed.

    Means over rows are averaged per unit (user, row) over splits and seeds before pairing; other
    metrics, such as AUC, are resampled over the rows of each split.

    Raises:
        ValueError: the judgements are not of the same rows.
    """
    if len(first) != len(second) or any(not np.array_equal(a.unit, b.unit) for a, b in zip(first, second, strict=True)):
        raise ValueError("two predictors are compared on the same rows, split by split")
    column = getattr(metric, "is_mean", None)
    draws = _draws(metric, [first, second], seed)
    difference = draws[:, 0] - draws[:, 1]
    low, high = _interval(difference)
    value = float(np.mean([metric(a.columns) - metric(b.columns) for a, b in zip(first, second, strict=True)]))
    if column is None:
        above, below = (difference >= 0).sum(), (difference <= 0).sum()
        p_value = min(1.0, 2.0 * float(min(above, below) + 1) / (len(difference) + 1))
    else:
        gaps = _by_unit(first, column) - _by_unit(second, column)
        p_value = float(stats.wilcoxon(gaps).pvalue) if np.any(gaps != 0) else 1.0
    return Paired(value, low, high, p_value)


def _by_unit(judged: Sequence[Judgement], column: str) -> Array:
    """Mean of a column per unit over all judgements, (units,)."""
    units = np.concatenate([j.unit for j in judged])
    values = np.concatenate([np.asarray(j.columns[column], float) for j in judged])
    _, position = np.unique(units, return_inverse=True)
    return np.bincount(position, values) / np.bincount(position)


def _draws(metric: Metric, predictors: Sequence[Sequence[Judgement]], seed: int) -> Array:
    """The metric under resampling, (RESAMPLES, predictors); all predictors see the same draws."""
    generator = np.random.default_rng(seed)
    column = getattr(metric, "is_mean", None)
    if column is not None:
        units = np.stack([_by_unit(judged, column) for judged in predictors], 1)
        answer = np.empty((RESAMPLES, units.shape[1]))
        for draw in range(RESAMPLES):
            answer[draw] = units[generator.integers(0, len(units), len(units))].mean(0)
        return answer
    answer = np.empty((RESAMPLES, len(predictors)))
    resampled = [[_resampled(metric, judgement) for judgement in judged] for judged in predictors]
    # Judgements of one split share their rows, and so share the draw.
    splits: dict[bytes, list[int]] = {}
    for i, judgement in enumerate(predictors[0]):
        splits.setdefault(judgement.unit.tobytes(), []).append(i)
    for draw in range(RESAMPLES):
        values = [[0.0] * len(judged) for judged in predictors]
        for members in splits.values():
            count = len(predictors[0][members[0]].unit)
            rows = generator.integers(0, count, count)
            for p, judged in enumerate(resampled):
                for i in members:
                    values[p][i] = judged[i](rows)
        answer[draw] = [float(np.mean(v)) for v in values]
    return answer


def _resampled(metric: Metric, judged: Judgement) -> Callable[[Array], float]:
    """The rows drawn to the metric over them; by `metric.resampled` where the metric has a quicker way."""
    quick = getattr(metric, "resampled", None)
    if quick is None:
        return lambda rows: metric({name: column[rows] for name, column in judged.columns.items()})
    of_counts, count = quick(judged.columns), len(judged.unit)
    return lambda rows: float(of_counts(np.bincount(rows, minlength=count)))


def _interval(draws: Array) -> tuple[float, float]:
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def rails(task: Task, found: Mapping[str, Mapping[str, float]]) -> str:
    """Where students stand to the task's guard rails, in a sentence for each rail; nothing where there is none.

    Args:
        task: with its rails.
        found: student -> metric -> value.
    """
    said = []
    for name, (low, high) in task.rails.items():
        off = [f"{student} ({told[name]:.3f})" for student, told in found.items() if not low <= told[name] <= high]
        if off:
            said.append(f" Mind {name} on test rows, which should lie within {low:g} and {high:g}: {', '.join(off)}.")
        else:
            said.append(f" On test rows {name} lies within {low:g} and {high:g} for every student.")
    return "".join(said)


def agreement(first: Sequence[Judgement], second: Sequence[Judgement]) -> float:
    """Mean overlap of the answers: top-1 for classes, of the first ten for rankings; the correlation of values."""
    shares = []
    for a, b in zip(first, second, strict=True):
        if "values" in a.columns:
            pair = a.columns["values"].ravel(), b.columns["values"].ravel()
            constant = min(one.std() for one in pair) == 0
            shares.append(float(np.array_equal(*pair)) if constant else float(np.corrcoef(*pair)[0, 1]))
            continue
        same = (a.top[:, :, None] == b.top[:, None, :]) & (a.top[:, :, None] >= 0)
        shares.append(float(same.any(2).sum(1).mean()) / max(a.top.shape[1], 1))
    return float(np.mean(shares))


@dataclass(frozen=True)
class Kept:
    """What the student kept of the teacher's headline.

    Args:
        retention: student / teacher, or teacher / student for errors.
        lift_retention: (student - trivial) / (teacher - trivial); none where the teacher is no better.
        transfer_ratio: (student - scratch) / (teacher - scratch); none where the teacher is no better.
    """

    retention: float | None
    lift_retention: float | None
    transfer_ratio: float | None

    def share(self, task: Task) -> float | None:
        """What may be called kept: where a blind guess is worth something, it is no part of it."""
        return self.retention if task.chance is None else self.lift_retention


def kept(task: Task, *, teacher: float, student: float, scratch: float, trivial: float) -> Kept:
    """The three ratios of a headline; `trivial` is used where the task knows no chance level."""
    floor = task.chance if task.chance is not None else trivial
    top, bottom = (student, teacher) if task.higher_is_better else (teacher, student)
    return Kept(
        _ratio(top, bottom),
        _ratio(student - floor, teacher - floor) if _better(task, teacher, floor) else None,
        _ratio(student - scratch, teacher - scratch) if _better(task, teacher, scratch) else None,
    )


def _ratio(top: float, bottom: float) -> float | None:
    return top / bottom if abs(bottom) > 1e-12 and math.isfinite(top / bottom) else None


def _better(task: Task, a: float, b: float) -> bool:
    return a > b if task.higher_is_better else a < b


def sentence(
    task: Task, name: str, *, teacher: float, student: float, scratch: float, test: Paired, share: float | None
) -> str:
    """What happened, plainly.

    Args:
        task: says which metric is the headline, and which way is better.
        name: the student's.
        teacher: its headline on test rows.
        student: the same, mean over seeds.
        scratch: the same of the twin.
        test: student against scratch, paired.
        share: what the student kept, as `Kept.share` has it, where it can be had.
    """
    keeps = _keeps(task, student, share)
    figures = f"({student:.4g} of {teacher:.4g})"
    gain = abs(test.difference)
    p_value = "p < .001" if test.p_value < 0.001 else f"p = {test.p_value:.3f}"
    if test.p_value < 0.05 and _better(task, student, scratch):
        return f"{name} {keeps} {figures}; distillation helped: {gain:.4g} better than its honest twin ({p_value})."
    if test.p_value < 0.05:
        return f"{name} {keeps} {figures}; distillation hurt: {gain:.4g} worse than its honest twin ({p_value})."
    return f"{name} {keeps} {figures}; distillation did not help: its honest twin does as well ({p_value})."


def _keeps(task: Task, student: float, share: float | None) -> str:
    if task.chance is not None and math.isfinite(student) and not _better(task, student, task.chance):
        return f"is no better than chance, which has {task.headline} {task.chance:g}"
    if share is None:
        return "is not comparable"
    if task.chance is None:
        return f"keeps {share:.1%} of the teacher's {task.headline}"
    return f"keeps {share:.1%} of what the teacher's {task.headline} has above chance, {task.chance:g}"


def caution(trainings: int) -> str:
    """What is to be said of so many trainings of a student and its twin; nothing of several.

    >>> caution(3)
    ''
    """
    return "" if trainings > 1 else " One training alone proves nothing: name several seeds."
