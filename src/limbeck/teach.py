"""One training as a step: found by fingerprint, or descended or fitted, completed and saved."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck import parts
from limbeck.bind import objective_of
from limbeck.encoder import Encoder
from limbeck.errors import Stopped, counted
from limbeck.lesson import Lesson, Lessons, combinations
from limbeck.loader import TableLoader
from limbeck.model import Model
from limbeck.objective import Objective
from limbeck.progress import Teller
from limbeck.shelf import Shelf, note_seconds
from limbeck.task import Problem, Task
from limbeck.types import Array, Rows, fingerprint
from limbeck.verbs.distill import Taught, Watch, distill
from limbeck.verbs.fit import fit

Stop = Callable[[Model, Mapping[int, float]], bool]
"""The model and what was judged so far, epoch -> headline, to whether to give up."""


@dataclass
class Desk:
    """What every step of a run has at hand.

    Args:
        task: of the recipe.
        base: the folder the recipe's paths count from.
        cache: steps that other runs may find: teachers.
        shelf: steps of this run: students, judgements.
        teller: where progress goes.
        found: steps that were done already.
        seconds: what each part of the run took when it was really done, be it now or before.
    """

    task: Task
    base: Path
    cache: Shelf
    shelf: Shelf
    teller: Teller = field(default_factory=Teller)
    found: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    encoded: dict[tuple[str, str], dict[str, Array]] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        """Seconds that the finished steps this run asked for took, each counted once."""
        return self.cache.spent + (self.shelf.spent if self.shelf is not self.cache else 0.0)

    def encode(self, encoder: Encoder, rows: Rows) -> dict[str, Array]:
        """An encoder's answer for a fixed source, computed once a run."""
        key = (encoder.fingerprint, rows.fingerprint)
        if key not in self.encoded:
            self.encoded[key] = encoder.rows(rows)
        return self.encoded[key]


@dataclass(frozen=True)
class Lived:
    """A trained model and what its training said.

    Args:
        model: with its best weights.
        folder: where it is kept.
        validation: its headline on validation rows.
        curves: terms, validation and best epoch; empty where it was fitted.
        seconds: of training.
        steps: taken.
        chosen: the settings that were searched for and found best.
    """

    model: Model
    folder: Path
    validation: float
    curves: Mapping[str, Any]
    seconds: float
    steps: int
    chosen: Mapping[str, Any] = field(default_factory=dict)


def teach(desk: Desk, lesson: Lesson, shelf: Shelf, kind: str, stop: Stop | None = None) -> Lived:
    """Find or train the model of a lesson.

    Raises:
        Stopped: `stop` gave it up.
    """
    key = lesson.key(desk.task)
    if shelf.has(kind, key):
        desk.found.append(f"{kind} {lesson.title}")
    else:
        desk.done.append(f"{kind} {lesson.title}")
    unfinished = shelf.place(f"{kind}-unfinished", key)
    try:
        folder = shelf.get(kind, key, lambda place: _make(desk, lesson, place, unfinished, stop))
    except Stopped:
        shelf.drop(f"{kind}-unfinished", key)
        raise
    shelf.drop(f"{kind}-unfinished", key)  # its checkpoints have served
    said = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return Lived(
        Model.load(folder), folder, said["validation"], said["curves"], float(said["seconds"]), int(said["steps"])
    )


def choose(desk: Desk, taught: Lessons, shelf: Shelf, kind: str, choices: Mapping[str, list[Any]]) -> Lived:
    """Try every combination of the choices and keep the best on validation rows; the first of equals."""
    if not choices:
        return teach(desk, taught({}), shelf, kind)
    best: Lived | None = None
    for chosen in combinations(choices):
        tried = teach(desk, taught(chosen), shelf, kind)
        sign = 1.0 if desk.task.higher_is_better else -1.0
        if best is None or sign * tried.validation > sign * best.validation:
            best = replace(tried, chosen=chosen)
    assert best is not None
    return best


def _make(desk: Desk, lesson: Lesson, place: Path, unfinished: Path, stop: Stop | None) -> None:
    family = parts.make("models", lesson.family, dict(lesson.settings))
    start = time.monotonic()
    # What is fitted has no use for a seed.
    seeded = lesson.title if hasattr(family, "fit") else f"{lesson.title}, seed {lesson.seed}"
    desk.teller.say(f"  {seeded}: training on {counted(len(lesson.rows), 'row')}")
    with desk.teller.bar(f"{lesson.title}: fitting its encoder"):
        encoder = lesson.encoder(family)
    outputs = len(lesson.problem.axis)
    module = lesson.module(family, encoder)
    model = Model(lesson.family, dict(lesson.settings), encoder, module, outputs)
    with desk.teller.bar(f"{lesson.title}: encoding rows"):
        inputs = desk.encode(encoder, lesson.rows)
        targets = targets_of(desk.task, lesson)
    objective = objective_of(lesson.losses, desk.task, family)
    taught: Taught | None = None
    earlier = 0.0
    if hasattr(family, "fit"):
        with desk.teller.bar(f"{lesson.title}: fitting"):
            fit(
                family,
                module,
                inputs,
                targets,
                key=lesson.rows.key,
                outputs=outputs,
                objective=objective,
                teacher=lesson.knowledge,
            )
    else:
        began = time.monotonic()
        watch = _watch(desk, lesson, model, unfinished, stop)
        taught = _descend(lesson, model, {**inputs, **targets}, objective, watch)
        if taught.stopped:
            raise Stopped(f"{lesson.title} was given up after epoch {max(taught.validation)}")
        earlier = max(0.0, taught.seconds - (time.monotonic() - began))
    module.cpu()
    if hasattr(family, "finish"):
        tensors = {name: torch.from_numpy(value) for name, value in desk.encode(encoder, lesson.problem.train).items()}
        family.finish(module, tensors)
    if hasattr(family, "calibrate"):
        rows = lesson.problem.validation
        label = desk.task.targets(rows, lesson.problem)["label"]
        family.calibrate(module, desk.encode(encoder, rows), label)
    model.save(place)
    with desk.teller.bar(f"{lesson.title}: judging"):
        validation = _validation(desk.task, model, lesson.problem)
    said = {
        "validation": validation,
        "seconds": taught.seconds if taught else time.monotonic() - start,
        "steps": taught.steps if taught else 1,
        "curves": _curves(taught),
        "source": lesson.rows.source,
    }
    (place / "training.json").write_text(json.dumps(said), encoding="utf-8")
    note_seconds(place, time.monotonic() - start + earlier)


def _watch(desk: Desk, lesson: Lesson, model: Model, unfinished: Path, stop: Stop | None) -> Watch:
    return Watch(
        validate=lambda kept: _validation(desk.task, model.having(kept), lesson.problem),
        higher_is_better=desk.task.higher_is_better,
        stop=stop and partial(stop, model),
        folder=unfinished,
        teller=desk.teller,
        name=lesson.title,
    )


def peers_of(lesson: Lesson, model: Model, objective: Objective) -> list[torch.nn.Module]:
    """Networks like the student, of other weights, where a loss learns from them; its own random state stays."""
    family = parts.make("models", model.family, model.settings)
    peers = []
    with torch.random.fork_rng():
        for place in range(lesson.peers if "peers" in objective.company else 0):
            seed = int(fingerprint("peer", 1, seed=lesson.seed, place=place)[:15], 16)
            peers.append(replace(lesson, seed=seed).module(family, model.encoder))
    return peers


def _descend(lesson: Lesson, model: Model, tensors: Mapping[str, Array], objective: Objective, watch: Watch) -> Taught:
    return distill(
        model.module,
        loader_of(lesson, model.encoder, tensors),
        teacher=lesson.knowledge,
        objective=objective,
        training=lesson.training,
        watch=watch,
        peers=peers_of(lesson, model, objective),
    )


def loader_of(lesson: Lesson, encoder: Encoder, tensors: Mapping[str, Array]) -> TableLoader:
    """Batches of a lesson's rows, in the order of its seed."""
    return TableLoader(
        tensors,
        lesson.rows.id,
        batch_size=lesson.training.batch_size,
        seed=lesson.seed,
        view=lesson.rows.view,
        padded=[*encoder.padded, *([("targets",)] if "targets" in tensors else [])],
        bucket=lesson.training.bucket,
    )


def targets_of(task: Task, lesson: Lesson) -> dict[str, Array]:
    """What hard losses read of a lesson's rows, and their weights."""
    targets = task.targets(lesson.rows, lesson.problem)
    if "weight" in lesson.rows.roles:
        targets["weight"] = np.nan_to_num(np.asarray(lesson.rows.column(lesson.rows.role("weight")), np.float32), nan=1)
    return targets


def _validation(task: Task, model: Model, problem: Problem) -> float:
    return float(task.judge(model, problem.validation, problem).metrics[task.headline])


def _curves(taught: Taught | None) -> dict[str, Any]:
    if taught is None:
        return {}
    return {
        "terms": {name: list(values) for name, values in taught.terms.items()},
        "validation": {str(epoch): value for epoch, value in taught.validation.items()},
        "best": taught.best,
    }
