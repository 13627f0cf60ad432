"""What a step will cost, measured on a few of its own rows and steps; where that says nothing, nothing is said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import counted
from limbeck.knowledge import RANKED, Knowledge
from limbeck.lesson import Lesson
from limbeck.task import Problem, Task
from limbeck.teach import peers_of
from limbeck.trial import Fresh, MadeUp, fresh
from limbeck.types import Array, Key, Predictor, Rows, Signals, stem_of
from limbeck.verbs.distill import distill
from limbeck.verbs.fit import fit

SAMPLE = (200, 400)
"""Rows that a fitted family is timed on; a line through the two tells the rest."""
CHEAP_AXIS = 3000
"""A longest axis for such a timing: closed forms over items take its third power."""
JUDGED = 64
"""Rows that judging is timed on."""
KEY_BYTES = 16
NUMBER_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Cost:
    """What a training or a labelling takes.

    Args:
        seconds: none where it is not known.
        bytes: on disk.
        judging: seconds a row when the model is judged.
        note: where the seconds come from.
    """

    seconds: float | None
    bytes: int | None
    judging: float | None
    note: str


def training_cost(
    task: Task, lesson: Lesson, *, teacher: bool, kept: Knowledge, earlier: Sequence[Path], members: int = 0
) -> Cost:
    """Seconds and bytes of a training.

    A family that descends takes two real steps after two that warm up; one that is fitted is timed on
    samples, unless earlier runs fitted the same.

    Args:
        task: of the recipe.
        lesson: what to train.
        teacher: whether it has one (its knowledge need not be there yet).
        kept: how knowledge is kept.
        earlier: folders of finished trainings.
        members: of a teacher that also says what each of them says.
    """
    size = lesson.training.batch_size
    some = replace(lesson, rows=lesson.rows.slice(0, min(len(lesson.rows), max(2 * size, SAMPLE[1]))), knowledge=None)
    started = time.perf_counter()
    made = fresh(task, some)
    building = time.perf_counter() - started
    if teacher and made.objective.teacher_taps:
        return Cost(None, 4 * made.model.parameters, None, "reads the teacher's states; known once a run did it")
    known = MadeUp(task, len(lesson.problem.axis), kept, members=members) if teacher else None
    weight = 4 * made.model.parameters
    judging = judging_cost(task, made.model, lesson.problem)
    if hasattr(made.family, "fit"):
        seconds, note = _fitting(lesson, made, known, earlier)
        return Cost(seconds, weight, judging, note)
    seconds = _a_step(made, known, lesson) * steps_of(lesson)
    looks = -(-min(lesson.training.epochs, steps_of(lesson)) // lesson.training.check_every) + 1
    seconds += looks * judging * len(lesson.problem.validation) + building * len(lesson.rows) / len(some.rows)
    return Cost(seconds, weight, judging, "two real steps timed" + (", at most" if lesson.training.patience else ""))


def steps_of(lesson: Lesson) -> int:
    """Steps of a descent, at most."""
    whole = lesson.training.epochs * -(-len(lesson.rows) // lesson.training.batch_size)
    return min(whole, lesson.training.steps or whole)


def _a_step(made: Fresh, known: MadeUp | None, lesson: Lesson) -> float:
    short = lesson.training.model_copy(update={"epochs": 2, "steps": 2, "patience": None, "track": ()})
    objective = made.objective
    peers = peers_of(lesson, made.model, objective)
    for _ in range(2):
        taught = distill(
            made.model.module, made.loader, teacher=known, objective=objective, training=short, peers=peers
        )
    return taught.seconds / taught.steps


def _fitting(lesson: Lesson, made: Fresh, known: MadeUp | None, earlier: Sequence[Path]) -> tuple[float | None, str]:
    before = _earlier(lesson, earlier)
    if before is not None:
        return before, "as long as an earlier run took"
    if len(lesson.problem.axis) > CHEAP_AXIS:
        return None, "a long axis; known once a run did it"
    taken, counts = [], [min(count, len(made.loader.tensors["id"])) for count in SAMPLE]
    for count in (counts[0], *counts):  # the first warms up
        start = time.perf_counter()
        _fit(made, known, count, len(lesson.problem.axis))
        taken.append(time.perf_counter() - start)
    slope = max(0.0, (taken[2] - taken[1]) / max(1, counts[1] - counts[0]))
    return taken[2] + slope * (len(lesson.rows) - counts[1]), f"reckoned from {counted(counts[1], 'row')}"


def _fit(made: Fresh, known: MadeUp | None, count: int, outputs: int) -> None:
    inputs: dict[str, Array] = {}
    targets: dict[str, Array] = {}
    for name, value in made.tensors.items():
        (inputs if name in made.inputs else targets)[name] = value[:count]
    id, view = (made.loader.tensors[name].numpy()[:count] for name in ("id", "view"))
    module = made.family.module(made.model.encoder, outputs)
    key = Key("rehearsal", id, view)
    fit(made.family, module, inputs, targets, key=key, outputs=outputs, objective=made.objective, teacher=known)


def _earlier(lesson: Lesson, folders: Sequence[Path]) -> float | None:
    """Median seconds of finished trainings of the same family at the same settings."""
    found = []
    for folder in folders:
        try:
            model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            said = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if (model["family"], model["settings"], model["outputs"]) == (
            lesson.family, dict(lesson.settings), len(lesson.problem.axis),
        ):  # fmt: skip
            found.append(float(said["seconds"]))
    return float(np.median(found)) if found else None


def judging_cost(task: Task, predictor: Predictor, problem: Problem) -> float:
    """Seconds a row when a predictor is judged."""
    rows = problem.validation.slice(0, JUDGED)
    return _timed(lambda: task.judge(predictor, rows, problem)) / len(rows)


def labelling_cost(teacher: Predictor, rows: Rows, *, batch: int, kept: Knowledge) -> Cost:
    """Seconds and bytes of labelling rows, from the second of two batches."""
    some = rows.slice(0, batch)
    said = teacher(some.batch(teacher.reads))
    each = _timed(lambda: teacher(some.batch(teacher.reads))) / len(some)
    weight = (row_bytes(said, kept) + KEY_BYTES + 8 * ("user" in rows.roles)) * len(rows)
    return Cost(each * len(rows), weight, None, f"{counted(len(some), 'row')} timed")


def row_bytes(said: Signals, kept: Knowledge) -> int:
    """Bytes that a store needs for one row of these signals."""
    total = 0
    for name, value in said.items():
        stem, part = stem_of(name)
        numbers = int(np.prod(np.shape(value)[1:]))
        each = NUMBER_BYTES[kept.dtype]
        if part in ("ids", "tail"):
            total += 4 * numbers
        elif kept.top and not part and said.kinds[stem] in RANKED and np.ndim(value) == 2 and numbers > kept.top:
            total += (kept.top + kept.sampled) * (4 + each) + 4 * len(kept.temperatures)
        else:
            total += each * numbers
    return total


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
