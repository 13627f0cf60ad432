"""The teacher of a run: trained here, brought, or joined of several; and the gate it must pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from limbeck import parts
from limbeck.errors import GateRefused
from limbeck.lesson import baseline_lesson, teacher_lesson, with_choice
from limbeck.progress import Heard
from limbeck.recipe import Recipe, Teacher
from limbeck.report import Gate
from limbeck.task import Judgement, Problem, Task
from limbeck.teach import Desk, Lived, choose, teach
from limbeck.types import Array, Batch, Predictor, Rows, Signals, fingerprint


@dataclass(frozen=True)
class Tutor:
    """A teacher at hand.

    Args:
        predictor: what answers.
        title: what the report calls it.
        kind: `trained`, or the part of `teachers/` that brought it.
        lived: how it was trained; one of each member of an ensemble, none for what was brought.
        note: what a reader must know, such as an ensemble's weights.
    """

    predictor: Predictor
    title: str
    kind: str
    lived: tuple[Lived, ...] = ()
    note: str | None = None

    @property
    def parameters(self) -> int | None:
        """Of all members; none where one was brought and does not tell."""
        counts = [
            getattr(member, "parameters", None) for member in getattr(self.predictor, "members", [self.predictor])
        ]
        return None if None in counts else sum(int(count) for count in counts if count is not None)


def tutor_of(desk: Desk, recipe: Recipe, teacher: Teacher, problem: Problem) -> Tutor:
    """Train, open or join the teacher of a recipe for one problem. Test rows have no part in it."""
    if teacher.model is not None:
        lesson = teacher_lesson(recipe, teacher, problem)
        lived = choose(desk, partial(with_choice, lesson), desk.cache, "teachers", teacher.choose)
        chosen = ", ".join(f"{key} {value}" for key, value in lived.chosen.items())
        return Tutor(lived.model, teacher.title, "trained", (lived,), f"chosen: {chosen}" if chosen else None)
    if not teacher.joins:
        part = parts.make("teachers", str(teacher.source), teacher.settings)
        with desk.teller.bar(f"opening the teacher {teacher.title}"):
            return Tutor(part.open(problem, desk.base), teacher.title, str(teacher.source))
    ensemble = parts.make("teachers", "ensemble", teacher.settings)
    members = [tutor_of(desk, recipe, member, problem) for member in teacher.members]
    weights = None
    if ensemble.weights == "validation":
        with desk.teller.bar("weighing the members"):
            weights = _fitted(desk, ensemble, [member.predictor for member in members], problem)
    joined = ensemble.bind([member.predictor for member in members], problem, weights)
    shares = ", ".join(f"{m.title} {w:.2f}" for m, w in zip(members, joined.weights, strict=True))
    lived_all = tuple(lived for member in members for lived in member.lived)
    return Tutor(joined, teacher.title, "ensemble", lived_all, f"weights: {shares}")


def _fitted(desk: Desk, ensemble: Any, members: Sequence[Predictor], problem: Problem) -> tuple[float, ...]:
    """Weights that judge best on validation rows, each member asked once."""
    name, kind = desk.task.signal
    rows = problem.validation
    said = [_all(member, rows, name) for member in members]
    sign = 1.0 if desk.task.higher_is_better else -1.0

    def score(mean: Array) -> float:
        fixed = _Fixed(Signals({name: mean}, {name: kind}), rows)
        return sign * desk.task.judge(fixed, rows, problem).metrics[desk.task.headline]

    joining = parts.module("teachers", "ensemble")
    weights: tuple[float, ...] = joining.fit_weights(said, score, space=joining.space_of(kind, ensemble.space))
    return weights


def _all(member: Predictor, rows: Rows, name: str) -> Array:
    pieces = [np.asarray(member(batch)[name]) for batch in rows.batches(64, member.reads)]
    return np.concatenate(pieces)


class _Fixed:
    """A predictor that knows just these rows."""

    reads: tuple[str, ...] = ()

    def __init__(self, said: Signals, rows: Rows) -> None:
        self.said = said
        self.order = np.argsort(rows.id)
        self.id = rows.id[self.order]
        self.fingerprint = fingerprint("fixed", 1, rows=rows.fingerprint)

    def __call__(self, batch: Batch) -> Signals:
        where = self.order[np.searchsorted(self.id, batch.key.id)]
        return Signals({name: np.asarray(value)[where] for name, value in self.said.items()}, self.said.kinds)


@dataclass(frozen=True)
class Trivial:
    """The trivial baselines of a task, fitted."""

    lived: dict[str, Lived]

    def best(self, desk: Desk) -> tuple[str, float]:
        """The best on validation rows, with its headline."""
        sign = 1.0 if desk.task.higher_is_better else -1.0
        name = max(self.lived, key=lambda n: sign * self.lived[n].validation)
        return name, self.lived[name].validation


def trivial_of(desk: Desk, problem: Problem) -> Trivial:
    """Fit the task's trivial baselines at their default settings."""
    lived = {}
    for name in desk.task.baselines:
        lived[name] = teach(desk, baseline_lesson(name, problem), desk.cache, "baselines")
    return Trivial(lived)


def judged(desk: Desk, predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """A predictor's judgement on rows, found again if it was made before."""
    key = judged_key(desk.task, predictor, rows, problem)

    def make(place: Path) -> None:
        with desk.teller.bar("judging", len(rows)) as advance:
            desk.task.judge(Heard(predictor, advance), rows, problem).save(place)

    return Judgement.load(desk.shelf.get("judged", key, make))


def judged_key(task: Task, predictor: Predictor, rows: Rows, problem: Problem) -> str:
    """The fingerprint of a judgement."""
    return fingerprint(
        "judged",
        3,
        limbeck=version("limbeck"),
        predictor=predictor.fingerprint,
        rows=rows.fingerprint,
        train=problem.train.fingerprint,
        axis=problem.axis.fingerprint,
        task=task.name,
    )


def gate(desk: Desk, tutor: Tutor, trivial: Trivial, problem: Problem, *, allow_weak: bool) -> Gate:
    """Whether the teacher beats the best trivial baseline on validation rows.

    Raises:
        GateRefused: it does not, and the recipe does not allow that.
    """
    name, baseline = trivial.best(desk)
    value = judged(desk, tutor.predictor, problem.validation, problem).metrics[desk.task.headline]
    passed = value > baseline if desk.task.higher_is_better else value < baseline
    if not passed and not allow_weak:
        raise GateRefused(
            f"the teacher '{tutor.title}' has {desk.task.headline} {value:.4g} on validation rows, the trivial "
            f"baseline '{name}' {baseline:.4g}: nobody should learn from it. Train it better, "
            "or set teacher.allow_weak: true"
        )
    return Gate(passed=passed, metric=desk.task.headline, teacher=value, baseline=baseline, baseline_name=name)
