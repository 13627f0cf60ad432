"""Students leave: exported once, measured once, found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifact import Artifact, Column, Export
from limbeck.errors import LimbeckError
from limbeck.measure import Speed, speed
from limbeck.outcome import Outcome, best_seed
from limbeck.parity import Proof
from limbeck.teach import Desk, Lived
from limbeck.tutor import judged
from limbeck.types import Predictor, Rows, fingerprint
from limbeck.verbs.export import About, export


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
        2,
        limbeck=version("limbeck"),
        model=model.fingerprint,
        settings=asdict(settings),
        recipe=about.recipe,
        sources=dict(about.fingerprints),
        test=problem.test.fingerprint,
        store=outcome.stores[0].fingerprint,
    )
    folder = out / "artifact" / name.replace("/", "-")
    store = outcome.stores[0].fingerprint

    def make(place: Path) -> None:
        desk.teller.say(f"  {name}: exporting")
        proof = Proof(
            calibration={k: v[:300] for k, v in desk.encode(model.encoder, problem.train).items()},
            judge=lambda predictor: judged(desk, predictor, problem.validation, problem).metrics[desk.task.headline],
            headline=lived.validation,
            higher_is_better=desk.task.higher_is_better,
        )
        columns = Column.of(problem.train, model.reads)
        own = replace(
            about,
            columns=columns,
            axis=problem.axis,
            fingerprints={**about.fingerprints, "model": mark, "store": store},
        )
        with desk.teller.bar(f"{name}: exporting"):
            done = export(model, folder, proof=proof, about=own, settings=settings)
        told = {precision: asdict(parity) for precision, parity in done.parity.items()}
        opened = Artifact.open(folder)
        with desk.teller.hushed():
            found = {p: asdict(speed_of(opened.predictor(p), problem.test)) for p in opened.contract.precisions}
        (place / "left.json").write_text(json.dumps({"parity": told, "speed": found}), encoding="utf-8")

    if desk.shelf.has("left", mark) and not _is_left(folder, mark):
        desk.shelf.drop("left", mark)
    place = desk.shelf.get("left", mark, make)
    said = json.loads((place / "left.json").read_text(encoding="utf-8"))
    return Left(lived, folder, said["parity"], {name: Speed(**told) for name, told in said["speed"].items()})


def _is_left(folder: Path, mark: str) -> bool:
    if not (folder / "fingerprints.json").is_file():
        return False
    try:
        Artifact.open(folder)
    except LimbeckError:  # damaged, so it is exported again
        return False
    said = json.loads((folder / "fingerprints.json").read_text(encoding="utf-8"))
    return bool(said.get("model") == mark)


def speed_of(predictor: Predictor, rows: Rows) -> Speed:
    """Latency over the first 64 rows one by one, and throughput over 256 rows at once."""
    ones = [rows.slice(i, i + 1).batch(predictor.reads) for i in range(min(64, len(rows)))]
    # Rows of like length side by side, as labelling asks them: padding to the longest of all is nobody's rate.
    text = rows.roles.get("text")
    if isinstance(text, str) and len(rows) > 256:
        order = np.argsort([len(value) for value in rows.column(text)], kind="stable")
        middle = (len(rows) - 256) // 2
        rows = rows.take(order[middle : middle + 256])
    return speed(predictor, ones, rows.slice(0, 256).batch(predictor.reads))


def kept_speed(desk: Desk, predictor: Predictor, rows: Rows) -> Speed:
    """The same, measured once a run's folder."""
    key = fingerprint("speed", 2, predictor=predictor.fingerprint, rows=rows.fingerprint)

    def make(place: Path) -> None:
        with desk.teller.hushed():
            found = speed_of(predictor, rows)
        (place / "speed.json").write_text(json.dumps(asdict(found)), encoding="utf-8")

    return Speed(**json.loads((desk.shelf.get("speed", key, make) / "speed.json").read_text(encoding="utf-8")))
