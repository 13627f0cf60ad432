"""Students leave: exported once, measured once, found again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from limbeck.artifact import Artifact, Column, Export
from limbeck.errors import LimbeckError
from limbeck.measure import Speed, speed
from limbeck.outcome import Outcome, best_seed
from limbeck.parity import Proof
from limbeck.report import Report
from limbeck.task import Problem
from limbeck.teach import Desk, Lived
from limbeck.tutor import judged
from limbeck.types import Predictor, Rows, fingerprint
from limbeck.verbs.export import About, export

SAID = "left.json"
ROWS_TIMED = 64
CALIBRATED = 300
"""Training rows that ranges are measured on."""
CALMEST_OF = 30
"""Measurings at most: under a load of two processes a core, about every third of 64 rows is undisturbed."""


@dataclass(frozen=True)
class Left:
    """An exported student.

    Args:
        lived: the seed that was exported.
        path: of the artifact.
        parity: precision -> figures.
        speeds: of every file that is there, by precision.
    """

    lived: Lived
    path: Path
    parity: Mapping[str, Mapping[str, Any]]
    speeds: Mapping[str, Speed]


def leave(desk: Desk, outcome: Outcome, name: str, about: About, settings: Export, out: Path) -> Left:
    """Export a student's best seed, or find the artifact of that very seed."""
    lived = outcome.entry("student", name).lived[best_seed(desk, outcome, name)]
    problem = outcome.problems[0]
    model = lived.model
    mark = fingerprint(
        "left",
        4,
        limbeck=version("limbeck"),
        model=model.fingerprint,
        settings=asdict(settings),
        recipe=about.recipe,
        sources=dict(about.fingerprints),
        train=problem.train.fingerprint,
        test=problem.test.fingerprint,
        store=outcome.stores[0].fingerprint,
    )
    folder = out / "artifact" / name.replace("/", "-")
    origin = {
        "model": mark,
        "store": outcome.stores[0].fingerprint,
        "train": problem.train.fingerprint,
        "split": f"protocol '{outcome.protocol.name}', split {outcome.protocol.splits[0]}",
    }

    def make(place: Path) -> None:
        desk.teller.say(f"  {name}: exporting")
        own = replace(about, fingerprints={**about.fingerprints, **origin})
        parity = _export(desk, lived, problem, own, settings, folder)
        told = {"parity": parity, "speed": _speeds(desk, folder, problem.test)}
        (place / SAID).write_text(json.dumps(told), encoding="utf-8")

    if desk.shelf.has("left", mark) and not _is_left(folder, mark):
        desk.shelf.drop("left", mark)
    return _left(lived, folder, desk.shelf.get("left", mark, make))


def measured(desk: Desk, lived: Lived, problem: Problem, settings: Export, p95_ms: float = math.inf) -> Left:
    """What a student would be once exported, by training and validation rows alone; its files are not kept.

    Args:
        desk: of the run.
        lived: the student.
        problem: it was trained for.
        settings: of the export.
        p95_ms: a file that seems slower than this is timed again and again, as other work on the machine can only
            make it seem so.

    Raises:
        ParityRefused: a file does not answer as the student does.
    """
    model = lived.model
    key = fingerprint(
        "measured",
        3,
        limbeck=version("limbeck"),
        model=model.fingerprint,
        settings=asdict(settings),
        p95_ms=repr(p95_ms),
        rows=problem.validation.fingerprint,
    )

    def make(place: Path) -> None:
        about = About(desk.task.name, problem.axis, (), Report(task=desk.task.name), recipe="")
        with TemporaryDirectory(dir=place) as room:
            folder = Path(room) / "student"
            parity = _export(desk, lived, problem, about, settings, folder)
            told = {"parity": parity, "speed": _speeds(desk, folder, problem.validation, p95_ms)}
        (place / SAID).write_text(json.dumps(told), encoding="utf-8")

    place = desk.shelf.get("measured", key, make)
    return _left(lived, place, place)


def _left(lived: Lived, folder: Path, place: Path) -> Left:
    said = json.loads((place / SAID).read_text(encoding="utf-8"))
    return Left(lived, folder, said["parity"], {name: Speed(**told) for name, told in said["speed"].items()})


def _export(
    desk: Desk, lived: Lived, problem: Problem, about: About, settings: Export, folder: Path
) -> dict[str, dict[str, Any]]:
    """Write the artifact; how each of its files answers."""
    drawn = problem.train.drawn(CALIBRATED)
    proof = Proof(
        calibration={k: v[drawn] for k, v in desk.encode(lived.model.encoder, problem.train).items()},
        judge=lambda predictor: judged(desk, predictor, problem.validation, problem).metrics[desk.task.headline],
        headline=lived.validation,
        higher_is_better=desk.task.higher_is_better,
    )
    own = replace(about, columns=Column.of(problem.train, lived.model.reads), axis=problem.axis)
    with desk.teller.bar(f"{folder.name}: exporting"):
        done = export(lived.model, folder, proof=proof, about=own, settings=settings)
    return {precision: asdict(parity) for precision, parity in done.parity.items()}


def _speeds(desk: Desk, folder: Path, rows: Rows, p95_ms: float = math.inf) -> dict[str, dict[str, Any]]:
    """How fast each file of an artifact is."""
    opened = Artifact.open(folder)
    with desk.teller.hushed():
        return {p: asdict(_speed(opened.predictor(p), rows, p95_ms)) for p in opened.contract.precisions}


def _speed(predictor: Predictor, rows: Rows, p95_ms: float) -> Speed:
    """The speed; of several measurings the calmest, where the median keeps to a bound that the tail seems to pass."""
    found = [speed_of(predictor, rows)]
    # Long enough to ask every row once: a window without the slow rows would be no calmer, but blind.
    seconds = ROWS_TIMED * found[0].p50_ms / 1e3 / 0.4
    while min(one.p95_ms for one in found) > p95_ms >= found[0].p50_ms and len(found) < CALMEST_OF:
        found.append(speed_of(predictor, rows, seconds))
    return min(found, key=lambda one: one.p95_ms)


def _is_left(folder: Path, mark: str) -> bool:
    if not (folder / "fingerprints.json").is_file():
        return False
    try:
        Artifact.open(folder)
    except LimbeckError:  # damaged, so it is exported again
        return False
    said = json.loads((folder / "fingerprints.json").read_text(encoding="utf-8"))
    return bool(said.get("model") == mark)


def speed_of(predictor: Predictor, rows: Rows, seconds: float = 1.0) -> Speed:
    """Latency over the first 64 rows one by one, and throughput over 256 rows at once, in so many seconds."""
    ones = [rows.slice(i, i + 1).batch(predictor.reads) for i in range(min(ROWS_TIMED, len(rows)))]
    # Rows of like length side by side, as labelling asks them: padding to the longest of all is nobody's rate.
    text = rows.roles.get("text")
    if isinstance(text, str) and len(rows) > 256:
        order = np.argsort([len(value) for value in rows.column(text)], kind="stable")
        middle = (len(rows) - 256) // 2
        rows = rows.take(order[middle : middle + 256])
    return speed(predictor, ones, rows.slice(0, 256).batch(predictor.reads), seconds=seconds)


def kept_speed(desk: Desk, predictor: Predictor, rows: Rows) -> Speed:
    """The same, measured once a run's folder."""
    key = fingerprint("speed", 2, predictor=predictor.fingerprint, rows=rows.fingerprint)

    def make(place: Path) -> None:
        with desk.teller.hushed():
            found = speed_of(predictor, rows)
        (place / "speed.json").write_text(json.dumps(asdict(found)), encoding="utf-8")

    return Speed(**json.loads((desk.shelf.get("speed", key, make) / "speed.json").read_text(encoding="utf-8")))
