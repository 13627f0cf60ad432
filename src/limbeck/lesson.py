"""Everything that decides a model's weights, and how a recipe says it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import torch

from limbeck import parts
from limbeck.bind import hard_name, hard_of, with_losses, with_settings
from limbeck.encoder import Encoder
from limbeck.errors import UserError, few
from limbeck.model import Family, Model
from limbeck.recipe import Loss, Recipe, Student, Teacher, Training
from limbeck.store import Store
from limbeck.task import Problem, Task
from limbeck.types import Predictor, Rows, fingerprint


@dataclass(frozen=True)
class Lesson:
    """Everything that decides a model's weights.

    Args:
        title: what progress calls it.
        family, settings: the part in `models/`.
        training: how it is descended.
        losses: the objective.
        problem: axis, validation rows, and the training rows the encoder is fitted on.
        rows: what it trains on.
        knowledge: the teacher's stored answers for these rows, or none.
        seed: of weights, order and dropout.
        reads: the columns it may read; none where that is nobody's business, as a teacher's is.
        peers: networks like it that train beside it, where a loss learns from them.
        teacher: who said the knowledge, for families that begin with parts of it.
    """

    title: str
    family: str
    settings: Mapping[str, Any]
    training: Training
    losses: tuple[Loss, ...]
    problem: Problem
    rows: Rows
    knowledge: Store | None
    seed: int
    reads: tuple[str, ...] | None = None
    peers: int = 0
    teacher: Predictor | None = None

    def encoder(self, family: Family) -> Encoder:
        """The family's encoder, fitted on the training rows.

        Raises:
            UserError: it reads a column that a student may not see.
        """
        encoder = family.encoder(self.problem)
        hidden = [name for name in encoder.reads if self.reads is not None and name not in self.reads]
        if hidden:
            told = self.problem.train.roles.get("privileged", ())
            kept = ", which only a teacher may see" if set(hidden) <= set(told) else ""
            allowed = ", ".join(map(repr, self.reads or ()))
            raise UserError(f"'{self.title}' reads {few(hidden)}{kept}; a student here may read {allowed}")
        return encoder

    def module(self, family: Family, encoder: Encoder) -> torch.nn.Module:
        """Fresh weights by the seed, but for what the family begins with of its teacher's.

        Raises:
            UserError: the teacher has no such parts.
        """
        torch.manual_seed(self.seed)
        module = family.module(encoder, len(self.problem.axis))
        if self.teacher is not None and hasattr(family, "inherit"):
            if not isinstance(self.teacher, Model):
                raise UserError(
                    f"'{self.title}' begins with parts of its teacher's network, and that teacher was brought or "
                    "joined from several; take one that is trained here"
                )
            family.inherit(module, self.teacher.module)
        return module

    def key(self, task: Task) -> str:
        """The step's fingerprint: defaults written out, weights it starts from included, test rows left out."""
        family = parts.make("models", self.family, dict(self.settings))
        losses = []
        for loss in self.losses:
            name = hard_name(task, family) if loss.loss == "hard" else loss.loss
            settings = {**parts.settings_of(parts.get("losses", name)), **loss.settings}
            if loss.sample_weight is not None:
                settings["sample_weight"] = asdict(loss.sample_weight)
            if loss.source != "teacher":
                settings["from"] = [loss.source, self.peers if loss.source == "peers" else 1]
            losses.append([name, loss.model_dump(mode="json")["weight"], settings])
        return fingerprint(
            "lesson",
            2,
            limbeck=version("limbeck"),
            family=self.family,
            settings=asdict(family),
            content=family.content() if hasattr(family, "content") else None,
            training=self.training.digest(),
            losses=losses,
            task=task.name,
            train=self.problem.train.fingerprint,
            validation=self.problem.validation.fingerprint,
            axis=self.problem.axis.fingerprint,
            rows=self.rows.fingerprint,
            knowledge=None if self.knowledge is None else self.knowledge.fingerprint,
            seed=self.seed,
        )


Lessons = Callable[[Mapping[str, Any]], Lesson]
"""Settings to how somebody is trained with them."""


def teacher_lesson(recipe: Recipe, teacher: Teacher, problem: Problem) -> Lesson:
    """How a recipe trains a teacher: on the labelled rows, by the hard loss."""
    training = Training.model_validate({**recipe.training.model_dump(), **teacher.training})
    return Lesson(
        title=f"teacher {teacher.title}",
        family=str(teacher.model),
        settings=teacher.settings,
        training=training,
        losses=hard_of(attacked=training.attack is not None),
        problem=problem,
        rows=problem.train,
        knowledge=None,
        seed=teacher.seed,
    )


def baseline_lesson(name: str, problem: Problem) -> Lesson:
    """A trivial baseline at its default settings."""
    return Lesson(f"baseline {name}", name, {}, Training(), hard_of(), problem, problem.train, None, 0)


def lesson_of(
    recipe: Recipe,
    student: Student,
    problem: Problem,
    rows: Rows,
    knowledge: Store | None,
    teacher: Predictor | None = None,
) -> Lesson:
    """How a recipe teaches one of its students, at the first seed."""
    return Lesson(
        title=student.title,
        family=student.model,
        settings=student.settings,
        training=Training.model_validate({**recipe.training.model_dump(), **student.training}),
        losses=student.objective or recipe.objective,
        problem=problem,
        rows=rows,
        knowledge=knowledge,
        seed=recipe.seeds[0],
        reads=problem.reads,
        peers=student.peers,
        teacher=teacher,
    )


def combinations(choices: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Every choice of one value each."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def titled(title: str, chosen: Mapping[str, Any]) -> str:
    """What progress calls a training with chosen settings.

    >>> titled("ease", {"l2": 50}), titled("ease", {})
    ('ease (l2 50)', 'ease')
    """
    said = ", ".join(f"{key.removeprefix('training.')} {value}" for key, value in chosen.items())
    return f"{title} ({said})" if said else title


def with_choice(lesson: Lesson, chosen: Mapping[str, Any]) -> Lesson:
    """The lesson with chosen settings."""
    settings, training = with_settings(lesson.settings, chosen)
    told = Training.model_validate({**lesson.training.model_dump(), **training})
    title = titled(lesson.title, chosen)
    return replace(lesson, settings=settings, training=told, losses=with_losses(lesson.losses, chosen), title=title)
