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
from limbeck.bind import bind, knowledge_of, objective_of, problem_of
from limbeck.errors import UserError, few
from limbeck.knowledge import Knowledge, keep, unpack
from limbeck.live import dry_batch, recall
from limbeck.loader import TableLoader
from limbeck.model import Model
from limbeck.objective import Objective
from limbeck.recipe import Recipe, Student, Teacher
from limbeck.taps import HIDDEN
from limbeck.task import Problem, Task
from limbeck.teach import Lesson, lesson_of, loader_of, targets_of, teacher_lesson
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
        """Noise for these rows, (B, outputs), cut to the best entries where a store would cut it."""
        name, kind = self.task.signal
        draw = np.random.default_rng(0)
        mains = [name, *(f"{name}.{member}" for member in range(self.members))]
        shapes = {**dict.fromkeys(mains, (self.outputs,)), **self.states}
        noise = {key: draw.standard_normal((len(id), *shape)).astype(np.float32) for key, shape in shapes.items()}
        kinds: dict[str, Kind] = {**dict.fromkeys(self.states, "embedding"), **dict.fromkeys(mains, kind)}
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
    torch.manual_seed(lesson.seed)
    model = Model(lesson.family, dict(lesson.settings), encoder, family.module(encoder, outputs), outputs)
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
    bound = bind(recipe, base)
    problem = tried(("protocols", 0), lambda: problem_of(bound, recipe.protocols[0], recipe.protocols[0].splits[0]))
    if problem is None:
        return
    for i, student in enumerate(recipe.students):
        tried(("students", i), partial(_dry, recipe, bound.task, student, problem))
    tried(("teacher",), partial(_open, recipe.teacher, problem, base))


def _dry(recipe: Recipe, task: Task, student: Student, problem: Problem) -> None:
    some = replace(problem, train=problem.train.slice(0, SOME))
    made = fresh(task, lesson_of(recipe, student, some, problem.train.slice(0, ROWS), None))
    states = states_of(recipe, task, some, made.objective.teacher_taps)
    kept = knowledge_of(recipe, made.objective.temperatures)
    known = MadeUp(task, len(problem.axis), kept, states, members=recipe.teacher.apart)
    batch = made.loader.gather(torch.arange(len(made.loader.tensors["id"])))
    recalled = recall(known, torch.device("cpu"))
    if hasattr(made.family, "fit"):
        outputs = torch.full((len(batch["id"]),), len(problem.axis))
        made.objective.target(recalled(batch), {**batch, "outputs": outputs})
    else:
        made.model.module.train()
        dry_batch(made.model.module, made.objective, recalled, batch)


def states_of(recipe: Recipe, task: Task, problem: Problem, taps: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of a row's hidden states, of the teacher with fresh weights.

    Raises:
        UserError: the teacher has no such parts, or cannot be tapped at all.
    """
    if not taps:
        return {}
    if recipe.teacher.model is None:
        raise UserError(f"a loss reads the teacher's inner states ({few(taps)}); only one trained here can be tapped")
    rows = problem.train.slice(0, ROWS)
    made = fresh(task, replace(teacher_lesson(recipe, recipe.teacher, problem), rows=rows))
    said = made.model.tapped(taps)(rows.batch(made.model.reads))
    return {name: tuple(np.shape(value)[1:]) for name, value in said.items() if name.startswith(HIDDEN)}


def _open(teacher: Teacher, problem: Problem, base: Path) -> None:
    """Open a teacher that is brought; services are asked when the run needs them."""
    for member in teacher.members:
        _open(member, problem, base)
    if teacher.source is None or teacher.joins:
        return
    part = parts.make("teachers", teacher.source, teacher.settings)
    if not getattr(part, "asks_a_service", False):
        predictor = part.open(problem, base)
        predictor(problem.train.slice(0, 2).batch(predictor.reads))
