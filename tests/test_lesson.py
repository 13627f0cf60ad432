"""How one training is bound: what a student may see of its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limbeck import parts
from limbeck.encoder import Encoder
from limbeck.encoders.presence import Presence
from limbeck.errors import UserError
from limbeck.lesson import Lesson, lesson_of
from limbeck.recipe import Loss, Training, parse
from limbeck.run import twin_of
from limbeck.shelf import Shelf
from limbeck.task import Problem
from limbeck.teach import Desk, teach
from limbeck.types import Axis, Rows

RECIPE = """\
task: classify_text
data: {path: rows.csv}
protocols: [{name: random, split: {kind: random}}]
teacher: {model: majority}
students: [{model: majority, name: small}]
objective: [{loss: kl}]
"""


class Peeking(parts.get("models", "majority")):
    """A family that knows which review a shop earned most with."""

    def encoder(self, problem: Problem) -> Encoder:
        return Encoder([Presence("margin"), Presence("text")])


@pytest.fixture
def problem() -> Problem:
    table = pa.table({"text": ["a", "b"], "label": ["x", "y"], "margin": [1.0, 2.0]})
    rows = Rows(table, np.arange(2), "shop", {"text": "text", "label": "label", "privileged": ("margin",)})
    return Problem(rows, rows, rows, Axis("label", ("x", "y")), ("text",))


def test_a_student_and_its_twin_read_no_column_that_is_the_teachers(problem: Problem) -> None:
    recipe = parse(RECIPE)[0]
    student = lesson_of(recipe, recipe.students[0], problem, problem.train, None)
    words = "reads 'margin', which only a teacher may see; a student here may read 'text'"
    for lesson in (student, twin_of(parts.get("tasks", "classify_text"), student, problem.train)({})):
        with pytest.raises(UserError, match=words):
            lesson.encoder(Peeking())
    other = Problem(**{**vars(problem), "train": replace(problem.train, roles={"text": "text", "label": "label"})})
    with pytest.raises(UserError, match="'small' reads 'margin'; a student here may read 'text'"):
        replace(student, problem=other).encoder(Peeking())


def test_a_teacher_may_read_it(problem: Problem) -> None:
    lesson = Lesson("teacher", "majority", {}, Training(), (Loss(loss="hard"),), problem, problem.train, None, 0)
    assert lesson.encoder(Peeking()).reads == ("margin", "text")


def test_training_itself_refuses_and_not_only_the_rehearsal(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = parts.make

    def peeking(folder: str, name: str, settings: dict[str, Any]) -> Any:
        return Peeking() if folder == "models" else make(folder, name, settings)

    monkeypatch.setattr(parts, "make", peeking)
    recipe, shelf = parse(RECIPE)[0], Shelf(tmp_path)
    desk = Desk(parts.get("tasks", "classify_text"), tmp_path, shelf, shelf)
    with pytest.raises(UserError, match="'small' reads 'margin', which only a teacher may see"):
        teach(desk, lesson_of(recipe, recipe.students[0], problem, problem.train, None), shelf, "students")


def test_lessons_whose_rows_count_otherwise_are_other_lessons(problem: Problem) -> None:
    task = parts.get("tasks", "classify_text")
    keys = []
    for by in ("", ", sample_weight: confidence", ", sample_weight: {by: confidence, floor: 0.5}"):
        recipe = parse(RECIPE.replace("loss: kl", f"loss: kl{by}"))[0]
        keys.append(lesson_of(recipe, recipe.students[0], problem, problem.train, None).key(task))
    assert len(set(keys)) == 3
