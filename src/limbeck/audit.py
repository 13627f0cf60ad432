"""The audit of a finished run: teacher, best student and best twin under attack, added to the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from limbeck.compose import write
from limbeck.corruption import STRENGTHS
from limbeck.errors import UserError
from limbeck.progress import Teller
from limbeck.report import Report, load_rows
from limbeck.robustness import Robustness, Withstood
from limbeck.run import Split, begin, descended, flow_of, labelled_split, origin_of
from limbeck.task import Problem
from limbeck.teach import Desk, Lived
from limbeck.types import Array, Predictor, Rows, fingerprint
from limbeck.verbs.audit import (
    CLEAN,
    ENSEMBLE,
    Audit,
    Targets,
    attackable,
    corrupted,
    drawn,
    right,
    targets,
    withstands,
)

VERSION = 1
NO_GRADIENTS = "not attacked: no gradient goes through what was brought or joined"


def audit(out: Path, *, settings: Audit | None = None, teller: Teller | None = None) -> Report:
    """Attack and spoil the test pictures of a finished run, and put what is still right into its report.

    Of the first split of the first protocol: the teacher, and of every student and its twin the training that is best
    on validation rows. Each attack on each predictor is a step of the run, found again where it was done; so what
    `limbeck run` writes anew has the audit again at once.

    Args:
        out: the run's folder.
        settings: how.
        teller: where progress goes.

    Returns:
        The report, which `out` holds as JSON, Markdown and a page.

    Raises:
        UserError: the folder holds no finished run, or one that does not classify pictures.
        MissingExtra: the ensemble's library is not installed.
    """
    settings = settings or Audit()
    found = Report.load(out)
    if flow_of(out) != "run":
        raise UserError(f"{out} holds no run of a recipe; name a folder that `limbeck run` made")
    recipe, base = origin_of(out)
    desk, bound = begin(recipe, base, out, teller)
    protocol = recipe.protocols[0]
    split = descended(desk, recipe, labelled_split(desk, bound, protocol, protocol.splits[0]))
    rows = drawn(split.problem.test, bound.task, split.problem, settings)
    bench = _Bench(desk, split.problem, rows, settings)
    robustness = Robustness(
        protocol=protocol.name,
        rows=len(rows),
        test_rows=len(split.problem.test),
        radii=settings.radii,
        severities=settings.severities,
        how=settings.how(),
        predictors=tuple(bench.withstood(*one) for one in _predictors(desk, split)),
    )
    found = replace(found, robustness=robustness)
    write(found, load_rows(out), out)
    return found


def _predictors(desk: Desk, split: Split) -> Iterator[tuple[Literal["teacher", "student", "scratch"], str, Predictor]]:
    yield "teacher", split.tutor.title, split.tutor.predictor
    for name, students in split.students.items():
        yield "student", name, _best(desk, students).model
        yield "scratch", name, _best(desk, split.twins[name]).model


def _best(desk: Desk, trained: Sequence[Lived]) -> Lived:
    """Of several seeds the one that is best on validation rows."""
    sign = 1.0 if desk.task.higher_is_better else -1.0
    return max(trained, key=lambda lived: sign * lived.validation)


@dataclass(frozen=True)
class _Bench:
    """Where predictors are tried, one step after the other.

    Args:
        desk: of the run.
        problem: whose test rows these are.
        rows: the sample.
        settings: of the audit.
    """

    desk: Desk
    problem: Problem
    rows: Rows
    settings: Audit

    def withstood(self, role: Literal["teacher", "student", "scratch"], name: str, predictor: Predictor) -> Withstood:
        """A predictor's accuracy under everything."""
        title = f"{role} {name}"
        self.desk.teller.say(f"  {title}: auditing")
        clean = self._step(predictor, CLEAN, 0.0, title)
        model = attackable(predictor)
        attacks = {}
        if model is not None:
            aims = targets(model, self.rows, self.desk.task, self.problem)
            attacks = self._attacks(predictor, aims, clean, title)
        corruptions = {
            kind: tuple(
                float(self._step(predictor, kind, severity, title).mean()) for severity in self.settings.severities
            )
            for kind in STRENGTHS
        }
        note = None if model is not None else NO_GRADIENTS
        return Withstood(
            name=name, role=role, clean=float(clean.mean()), attacks=attacks, corruptions=corruptions, note=note
        )

    def _attacks(self, predictor: Predictor, aims: Targets, clean: Array, title: str) -> dict[str, tuple[float, ...]]:
        found: dict[str, list[float]] = {attack: [] for attack in self.settings.attacks}
        strongest = clean
        for radius in self.settings.radii:
            for attack in self.settings.attacks:
                standing = strongest if attack == ENSEMBLE else clean
                held = self._step(predictor, attack, radius, title, standing, aims)
                found[attack].append(float(held.mean()))
                # What a smaller radius or a weaker attack breaks is broken for the ensemble too.
                strongest = strongest & held
        return {attack: tuple(values) for attack, values in found.items()}

    def _step(
        self,
        predictor: Predictor,
        trial: str,
        level: float,
        title: str,
        standing: Array | None = None,
        aims: Targets | None = None,
    ) -> Array:
        """Which rows are right under one attack or corruption, bool (N,); found again where it was tried."""
        of_attacks = {"rows", "radii", "severities"} if standing is not None else set(asdict(self.settings)) - {"seed"}
        key = fingerprint(
            "audit",
            VERSION,
            limbeck=version("limbeck"),
            predictor=predictor.fingerprint,
            rows=self.rows.fingerprint,
            train=self.problem.train.fingerprint,
            task=self.desk.task.name,
            trial=[trial, level],
            settings={name: value for name, value in asdict(self.settings).items() if name not in of_attacks},
            standing=None if standing is None else np.flatnonzero(standing).tolist(),
        )

        def make(place: Path) -> None:
            with self.desk.teller.bar(f"{title}: {trial} {level:.3g}"):
                held = self._tried(predictor, trial, level, standing, aims)
            (place / "right.json").write_text(json.dumps(held.tolist()), encoding="utf-8")

        return np.array(json.loads((self.desk.shelf.get("audits", key, make) / "right.json").read_bytes()), bool)

    def _tried(
        self, predictor: Predictor, trial: str, level: float, standing: Array | None, aims: Targets | None
    ) -> Array:
        if standing is not None and aims is not None:
            model = attackable(predictor)
            assert model is not None, "only what can be attacked has aims"
            return withstands(model, aims, standing, trial, level, self.settings)
        rows = self.rows if trial == CLEAN else corrupted(self.rows, trial, int(level), self.settings.seed)
        return right(predictor, rows, self.desk.task, self.problem)
