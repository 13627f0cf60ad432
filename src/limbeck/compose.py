"""What was found to a report, artifacts and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck import atomic, page, parts, report, verdict
from limbeck.artifact import Artifact, Export
from limbeck.front import Picked, Tuning
from limbeck.leave import Left, kept_speed, leave
from limbeck.measure import Speed
from limbeck.outcome import Entry, Outcome, best_seed
from limbeck.picture import thumbnail
from limbeck.task import Judgement
from limbeck.teach import Desk
from limbeck.tutor import judged
from limbeck.verbs.export import About

SHOWN = 60
"""Rows in the browser of disagreements: enough to see a pattern, few enough to read."""
MASK = "(privileged)"


def compose(desk: Desk, outcomes: Sequence[Outcome], *, about: About, settings: Export, out: Path) -> report.Report:
    """Compare, export and measure.

    Args:
        desk: of the run.
        outcomes: of every protocol; students of the first are exported.
        about: of the artifacts; its report is filled in here.
        settings: of the export.
        out: the run's folder.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        protocols = [_protocol(desk, outcome) for outcome in outcomes]
        text = " ".join([_verdict(desk, outcomes[0]), *(said.say() for said in page.tuning_sentences(protocols[0]))])
        said = replace(about.report, threads=1, protocols=tuple(protocols), verdict=text)
        left = _left(desk, outcomes[0], replace(about, report=said), settings, out)
        # The artifacts are students of the first protocol; another protocol's axis may differ.
        protocols = [
            _with_speed(desk, outcome, told, left if outcome is outcomes[0] else {})
            for outcome, told in zip(outcomes, protocols, strict=True)
        ]
    finally:
        torch.set_num_threads(threads)
    artifacts = tuple(
        report.Artifact(
            student=name,
            path=str(one.path.relative_to(out)),
            precision="int8" if precision == "int8" else "fp32",
            parity=dict(parity),
        )
        for name, one in left.items()
        for precision, parity in one.parity.items()
    )
    return replace(said, protocols=tuple(protocols), artifacts=artifacts)


def _left(desk: Desk, outcome: Outcome, about: About, settings: Export, out: Path) -> dict[str, Left]:
    """Every student's artifact; students who are the same training, as where a search finds the given one, share it."""
    left: dict[Path, Left] = {}
    answer = {}
    for name in outcome.students:
        lived = outcome.entry("student", name).lived[best_seed(desk, outcome, name)]
        if lived.folder not in left:
            left[lived.folder] = leave(desk, outcome, name, about, settings, out)
        answer[name] = left[lived.folder]
    return answer


def write(found: report.Report, rows: list[dict[str, Any]], out: Path) -> None:
    """`report.json`, `report.md`, `report.html` and `rows.json`."""
    found.save(out)
    report.save_rows(rows, out)
    atomic.replace(out / "report.md", page.markdown(found).encode())
    atomic.replace(out / "report.html", page.draw(found, rows).encode())


def _protocol(desk: Desk, outcome: Outcome) -> report.Protocol:
    task, first = desk.task, outcome.problems[0]
    facts = dict(first.facts)
    if first.unlabelled is not None:
        facts["unlabelled_rows_the_twin_could_not_use"] = len(first.unlabelled)
    return report.Protocol(
        name=outcome.protocol.name,
        n={"train": len(first.train), "validation": len(first.validation), "test": len(first.test)},
        headline=task.headline,
        higher_is_better=task.higher_is_better,
        chance=task.chance,
        splits=tuple(outcome.protocol.splits),
        seeds=outcome.seeds,
        rows=tuple(_row(desk, entry) for entry in outcome.entries),
        comparisons=tuple(_comparison(desk, outcome, name) for name in outcome.students),
        curves=tuple(_curves(outcome)),
        reliability=tuple(_reliability(outcome)),
        facts=facts,
        gate=_gate(desk, outcome),
        overridden=not outcome.gate.passed,
        tunings=tuple(_tuning(desk, outcome, one) for one in outcome.tunings),
    )


def _gate(desk: Desk, outcome: Outcome) -> report.Gate:
    """The gate, with the same comparison on test rows."""
    metric = desk.task.metrics[desk.task.headline]
    trivial = outcome.entry("trivial", outcome.gate.baseline_name)
    return replace(outcome.gate, **asdict(verdict.paired(metric, outcome.entry("teacher").test, trivial.test)))


def _tuning(desk: Desk, outcome: Outcome, found: Tuning) -> Tuning:
    """A student's search with its picks held against the student as given, on test rows."""
    if found.role != "student":
        return found
    metric, given = desk.task.metrics[desk.task.headline], outcome.entry("student", found.student).test

    def held(picked: Picked | None) -> Picked | None:
        if picked is None:
            return None
        return replace(picked, **asdict(verdict.paired(metric, outcome.entry("student", picked.name).test, given)))

    return replace(found, best=held(found.best), lean=held(found.lean))


def _row(desk: Desk, entry: Entry) -> report.Row:
    metrics = {
        name: report.Metric(**asdict(verdict.spread(metric, entry.test))) for name, metric in desk.task.metrics.items()
    }
    tutor = entry.tutor
    chosen = entry.lived[0].chosen if entry.lived else {}
    note = tutor.note if tutor else ", ".join(f"{key} {value}" for key, value in chosen.items()) or None
    models = [lived.model for lived in entry.lived]
    parameters = tutor.parameters if tutor else models[0].parameters if models else None
    return report.Row(
        role=entry.role,  # type: ignore[arg-type]  # the four roles, made in one place
        name=entry.name,
        tuned=bool(chosen) if entry.role != "trivial" else None,
        metrics=metrics,
        parameters=parameters,
        train_seconds=float(np.mean([lived.seconds for lived in entry.lived])) if entry.lived else None,
        slices=_slices(entry.test),
        teacher_kind=tutor.kind if tutor else None,
        note=note,
    )


def _slices(test: Sequence[Judgement]) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for judgement in test for name in judgement.slices)
    answer = {}
    for name in names:
        told = [judgement.slices[name] for judgement in test if name in judgement.slices]
        answer[name] = {key: float(np.mean([t[key] for t in told if key in t])) for key in told[0]}
    return answer


def _comparison(desk: Desk, outcome: Outcome, name: str) -> report.Comparison:
    task = desk.task
    student, scratch, teacher = outcome.entry("student", name), outcome.entry("scratch", name), outcome.entry("teacher")
    metric = task.metrics[task.headline]
    test = verdict.paired(metric, student.test, scratch.test)
    values = {e.role: _mean(metric, e.test) for e in (student, scratch, teacher)}
    sign = 1.0 if task.higher_is_better else -1.0
    trivial = max((_mean(metric, e.test) for e in outcome.entries if e.role == "trivial"), key=lambda v: sign * v)
    kept = verdict.kept(task, **values, trivial=trivial)
    repeated = [t for t in teacher.test for _ in range(len(student.test) // len(teacher.test))]
    return report.Comparison(
        student=name,
        scratch=name,
        **asdict(test),
        **asdict(kept),
        agreement=verdict.agreement(student.test, repeated),
    )


def _mean(metric: verdict.Metric, test: Sequence[Judgement]) -> float:
    return float(np.mean([metric(judgement.columns) for judgement in test]))


def _verdict(desk: Desk, outcome: Outcome) -> str:
    """About the student that is best on validation rows."""
    sign = 1.0 if desk.task.higher_is_better else -1.0
    best = max(
        outcome.students,
        key=lambda n: sign * float(np.mean([lived.validation for lived in outcome.entry("student", n).lived])),
    )
    metric = desk.task.metrics[desk.task.headline]
    told = {role: _mean(metric, outcome.entry(role, best).test) for role in ("student", "scratch")}
    told["teacher"] = _mean(metric, outcome.entry("teacher").test)
    test = verdict.paired(metric, outcome.entry("student", best).test, outcome.entry("scratch", best).test)
    kept = verdict.kept(desk.task, **told, trivial=math.nan)
    said = verdict.sentence(desk.task, best, **told, test=test, share=kept.share(desk.task))
    trivial = {e.name: _mean(metric, e.test) for e in outcome.entries if e.role == "trivial"}
    name = max(trivial, key=lambda n: sign * trivial[n], default=None)
    if name is not None and sign * trivial[name] >= sign * told["student"]:
        said += f" But the trivial baseline {name} does as well or better on test rows ({trivial[name]:.4g})."
    said += verdict.caution(len(outcome.entry("student", best).test))
    railed = {name: desk.task.metrics[name] for name in desk.task.rails}
    told_all = {n: {m: _mean(f, outcome.entry("student", n).test) for m, f in railed.items()} for n in outcome.students}
    said += verdict.rails(desk.task, told_all)
    if not outcome.gate.passed:
        said += " The teacher does not beat the trivial baselines; the recipe told the run to go on."
    return said


def _curves(outcome: Outcome) -> list[report.Curve]:
    answer = []
    for entry in outcome.entries:
        each = max(1, len(entry.lived) // len(outcome.problems))
        for i, lived in enumerate(entry.lived):
            if not lived.curves or entry.role == "trivial":
                continue
            looked = lived.curves["validation"]
            terms = lived.curves["terms"]
            epochs = max((len(values) for values in terms.values()), default=0)
            answer.append(
                report.Curve(
                    name=entry.name,
                    role=entry.role,  # type: ignore[arg-type]  # never trivial
                    split=outcome.protocol.splits[min(i // each, len(outcome.problems) - 1)],
                    seed=outcome.seeds[i % each] if entry.role != "teacher" else 0,
                    x=tuple(float(e) for e in range(1, epochs + 1)),
                    terms={name: tuple(values) for name, values in terms.items() if len(values) == epochs},
                    validation=tuple(looked.get(str(e)) for e in range(1, epochs + 1)),
                    best=lived.curves["best"],
                )
            )
    return answer


def _reliability(outcome: Outcome) -> list[report.Reliability]:
    answer = []
    calibration = parts.get("metrics", "calibration")
    for entry in outcome.entries:
        columns = [judgement.columns for judgement in entry.test]
        if entry.role == "trivial" or not all("probabilities" in c for c in columns):
            continue
        probabilities = np.concatenate([c["probabilities"] for c in columns])
        label = np.concatenate([c["label"] for c in columns])
        bins = tuple(report.Bin(**bin) for bin in calibration.reliability(probabilities, label))
        role: Any = entry.role
        answer.append(
            report.Reliability(name=entry.name, role=role, bins=bins, ece=calibration.ece(probabilities, label))
        )
    return answer


def _with_speed(desk: Desk, outcome: Outcome, told: report.Protocol, left: Mapping[str, Left]) -> report.Protocol:
    """The table's rows with what was measured: artifacts for students, the predictor itself for the teacher.

    An int8 file is a row of its own: that very file, judged on the test rows of the first split.
    """
    rows = []
    for row in told.rows:
        if row.role == "student" and row.name in left:
            one = left[row.name]
            rows += [_file_row(desk, outcome, row, one, precision) for precision in one.speeds]
        elif row.role == "teacher":
            tutor = outcome.entry("teacher").tutor
            assert tutor is not None
            found = kept_speed(desk, tutor.predictor, outcome.problems[0].test)
            each = max(1, len(tutor.lived))
            files = [lived.folder / "weights.safetensors" for lived in tutor.lived[:each]]
            rows.append(_measured(row, found, sum(f.stat().st_size for f in files) or None, "fp32"))
        else:
            rows.append(row)
    return replace(told, rows=tuple(rows))


def _file_row(desk: Desk, outcome: Outcome, row: report.Row, left: Left, precision: str) -> report.Row:
    measured = _measured(row, left.speeds[precision], int(left.parity[precision]["bytes"]), precision)
    if precision == "fp32":
        return measured
    problem = outcome.problems[0]
    predictor = Artifact.open(left.path).predictor("int8")
    test = [judged(desk, predictor, problem.test, problem)]
    own = _row(desk, Entry("student", row.name, test, []))
    note = "this very file, one seed and split"
    return replace(measured, metrics=own.metrics, slices=own.slices, train_seconds=None, note=note)


def _measured(row: report.Row, found: Speed, size: int | None, precision: str) -> report.Row:
    return replace(
        row,
        bytes=size,
        precision="int8" if precision == "int8" else "fp32",
        latency_ms=report.Latency(batch=1, p50=found.p50_ms, p95=found.p95_ms),
        rows_per_second=found.rows_per_second,
        encode_ms=found.encode_ms,
    )


def disagreements(desk: Desk, outcome: Outcome, name: str) -> list[dict[str, Any]]:
    """The test rows of the first split on which teacher and student differ most, privileged columns masked."""
    problem = outcome.problems[0]
    student = outcome.entry("student", name).test[best_seed(desk, outcome, name)]
    teacher = outcome.entry("teacher").test[0]
    differ = desk.task.apart(teacher, student)
    privileged = problem.test.roles.get("privileged", ())
    answer = []
    for i in np.argsort(-differ, kind="stable")[:SHOWN].tolist():
        raw = problem.test.slice(i, i + 1).table.to_pylist()[0]
        told, learnt = (desk.task.show(problem, judgement, i) for judgement in (teacher, student))
        answer.append({
            "id": int(problem.test.id[i]),
            "protocol": outcome.protocol.name,
            "row": {key: MASK if key in privileged else _short(value) for key, value in raw.items()},
            "disagreement": float(differ[i]),
            "truth": told["truth"],
            "teacher": told["answer"],
            "student": learnt["answer"],
            **({"teacher_p": told["p"], "student_p": learnt["p"]} if "p" in told else {}),
        })  # fmt: skip
    return answer


def _short(value: Any) -> Any:
    """A cell as JSON knows it: what it does not know, such as dates and numbers that are none, is spelt."""
    if isinstance(value, bytes):
        return thumbnail(value)
    if isinstance(value, list):
        return [_short(one) for one in value[-20:]]
    plain = value is None or isinstance(value, str | int | dict) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else str(value)
