"""Students before their time: fresh weights and a made-up teacher, to see what fits and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck import parts
from limbeck.attack import Attacker
from limbeck.bind import alone, bind, knowledge_of, objective_of, problem_of, taught_rows
from limbeck.errors import UserError, few
from limbeck.knowledge import Knowledge, keep, unpack
from limbeck.lesson import Lesson, lesson_of, teacher_lesson
from limbeck.live import dry_batch, recall, speaker
from limbeck.loader import TableLoader
from limbeck.model import Model
from limbeck.objective import Objective
from limbeck.recipe import Recipe, Student, Teacher
from limbeck.room import check_room
from limbeck.taps import HIDDEN
from limbeck.task import Problem, Task
from limbeck.teach import loader_of, targets_of
from limbeck.types import Array, Kind, Signals

ROWS = 8
"""Rows of a dry batch; enough for shapes, whatever a batch-norm asks."""
SOME = 256
"""Rows that a dry batch's encoder is fitted on."""

Tried = Callable[[tuple[str | int, ...], Callable[[], Any]], Any]


@dataclass(frozen=True)
class MadeUp:
    """A teacher that has answered every row with noise of the task's shape, kept as a store would keep it.

    Args:
        task: names the main signal.
        outputs: length of its axis.
        kept: how the recipe keeps knowledge.
        states: hidden signal -> its shape for one row, where losses read any.
        members: of an ensemble that also says what each of them says.
    """

    task: Task
    outputs: int
    kept: Knowledge
    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    members: int = 0

    def gather(self, id: Array, view: Array | None = None) -> Signals:
        """Noise for these rows, (B, outputs), and beside it (B, outputs, width); cut where a store would cut it."""
        name, kind = self.task.signal
        draw = np.random.default_rng(0)
        mains = [name, *(f"{name}.{member}" for member in range(self.members))]
        beside = {key: (self.outputs, width) for key, (_, width) in self.task.beside.items()}
        shapes: dict[str, tuple[int, ...]] = {**dict.fromkeys(mains, (self.outputs,)), **beside, **self.states}
        noise = {key: draw.standard_normal((len(id), *shape)).astype(np.float32) for key, shape in shapes.items()}
        kinds: dict[str, Kind] = {**dict.fromkeys(self.states, "embedding"), **dict.fromkeys(mains, kind)}
        kinds |= {key: said for key, (said, _) in self.task.beside.items()}
        if self.members:
            noise["share"] = np.full((len(id), self.members), 1 / self.members, np.float32)
            kinds["share"] = "values"
        id = np.asarray(id, np.int64)
        held = keep(self.kept, Signals(noise, kinds), id, np.zeros_like(id) if view is None else view)
        told = {key: unpack(column.data, column.dtype) for key, column in held.columns.items()}
        return Signals(told, kinds, tail_temperatures=self.kept.temperatures)


@dataclass(frozen=True)
class Fresh:
    """A model with fresh weights, and what it would be taught by.

    Args:
        family: the part that built it.
        model: untrained.
        objective: of its lesson.
        loader: batches of the lesson's rows.
        tensors: of those rows: inputs and targets.
        inputs: names of the inputs among them.
    """

    family: Any
    model: Model
    objective: Objective
    loader: TableLoader
    tensors: dict[str, Array]
    inputs: frozenset[str]


def fresh(task: Task, lesson: Lesson) -> Fresh:
    """Build what a lesson would train.

    Args:
        task: of the recipe.
        lesson: what to train; its rows are encoded here.
    """
    family = parts.make("models", lesson.family, dict(lesson.settings))
    encoder = lesson.encoder(family)
    outputs = len(lesson.problem.axis)
    model = Model(lesson.family, dict(lesson.settings), encoder, lesson.module(family, encoder), outputs)
    objective = objective_of(lesson.losses, task, family)
    inputs = encoder.rows(lesson.rows)
    tensors = {**inputs, **targets_of(task, lesson)}
    return Fresh(family, model, objective, loader_of(lesson, encoder, tensors), tensors, frozenset(inputs))


def rehearse(recipe: Recipe, base: Path, tried: Tried) -> None:
    """Send a small batch of the first problem through every student.

    Args:
        recipe: in which nothing else is wrong.
        base: the folder its paths count from.
        tried: makes an attempt for a place of the recipe, and notes what it raises.
    """
    # Views take minutes to make, and look to a student as the rows themselves do.
    bare = recipe.model_copy(update={"data": recipe.data.model_copy(update={"augment": None})})
    bound = bind(bare, base)
    problem = tried(("protocols", 0), lambda: problem_of(bound, recipe.protocols[0], recipe.protocols[0].splits[0]))
    if problem is None:
        return
    for i, student in enumerate(recipe.students):
        tried(("students", i), partial(_dry, recipe, bound.task, student, problem))
    few_rows = replace(problem, train=problem.train.slice(0, SOME))
    build = partial(_untrained, recipe, bound.task, problem=few_rows)
    tried(("teacher",), partial(_open, recipe.teacher, problem, base, build))


def _dry(recipe: Recipe, task: Task, student: Student, problem: Problem) -> None:
    some = replace(problem, train=problem.train.slice(0, SOME))
    lesson = lesson_of(recipe, student, some, problem.train.slice(0, ROWS), None)
    if recipe.teacher.model is not None and hasattr(parts.get("models", student.model), "inherit"):
        lesson = replace(lesson, teacher=_untrained(recipe, task, recipe.teacher, some).model)
    made = fresh(task, lesson)
    check_room({name: made.tensors[name] for name in made.inputs}, len(taught_rows(problem)))
    objective_of(alone(lesson.losses, task, made.family), task, made.family)  # the twin's
    taps, outputs = made.objective.teacher_taps, len(problem.axis)
    kept = knowledge_of(recipe, made.objective.temperatures)
    states = states_of(recipe, task, some, taps)
    _answers(made, MadeUp(task, outputs, kept, states, members=recipe.teacher.apart), lesson)
    if student.generations > 1:
        lesson = replace(lesson, teacher=made.model)
        states = _states(made.model.tapped(taps), some) if taps else {}
        _answers(fresh(task, lesson), MadeUp(task, outputs, kept, states), lesson)


def _answers(made: Fresh, known: MadeUp, lesson: Lesson) -> None:
    """Send a batch through a student and its objective."""
    batch = made.loader.gather(torch.arange(len(made.loader.tensors["id"])))
    recalled = recall(known, torch.device("cpu"))
    if hasattr(made.family, "fit"):
        outputs = torch.full((len(batch["id"]),), known.outputs)
        made.objective.target(recalled(batch), {**batch, "outputs": outputs})
    else:
        made.model.module.train()
        threat = lesson.training.attack
        if threat is not None:
            Attacker(threat, made.model.module, speaker(made.model.module, batch, "student")).check(batch)
        dry_batch(made.model.module, made.objective, recalled, batch, attacked=threat is not None)


def states_of(recipe: Recipe, task: Task, problem: Problem, taps: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of a row's hidden states, of the teacher with fresh weights.

    Raises:
        UserError: the teacher has no such parts, or cannot be tapped at all.
    """
    if not taps:
        return {}
    if recipe.teacher.model is None:
        raise UserError(f"a loss reads the teacher's inner states ({few(taps)}); only one trained here can be tapped")
    made = _untrained(recipe, task, recipe.teacher, problem)
    return _states(made.model.tapped(taps), problem)


def _states(tapped: Model, problem: Problem) -> dict[str, tuple[int, ...]]:
    said = tapped(problem.train.slice(0, ROWS).batch(tapped.reads))
    return {name: tuple(np.shape(value)[1:]) for name, value in said.items() if name.startswith(HIDDEN)}


def _untrained(recipe: Recipe, task: Task, teacher: Teacher, problem: Problem) -> Fresh:
    """A teacher with fresh weights, and a few rows."""
    lesson = teacher_lesson(recipe, teacher, problem)
    return fresh(task, replace(lesson, rows=problem.train.slice(0, ROWS)))


def _open(teacher: Teacher, problem: Problem, base: Path, build: Callable[[Teacher], object]) -> None:
    """Open a teacher that is brought, and build one that will be trained, unless its weights are still to be fetched.

    Services are asked when the run needs them.
    """
    for member in teacher.members:
        _open(member, problem, base, build)
    if teacher.model is not None and "source" not in parts.settings_of(parts.get("models", teacher.model)):
        build(teacher)
    if teacher.joins:
        parts.make("teachers", "ensemble", teacher.settings).routed(problem)
    if teacher.source is None or teacher.joins:
        return
    part = parts.make("teachers", teacher.source, teacher.settings)
    if not getattr(part, "asks_a_service", False):
        predictor = part.open(problem, base)
        predictor(problem.train.slice(0, 2).batch(predictor.reads))
