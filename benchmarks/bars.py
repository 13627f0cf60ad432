"""Runs a recipe and holds its report against the project's bars.

    python benchmarks/bars.py NAME [--out DIR]    # recommend, fine-foods, pictures, ...: the keys of RECIPES

Resumable: finished steps are found. Prints one line a bar, measured and wanted, and exits 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from bar import Bar, held, show

from limbeck import verdict
from limbeck.page.number import number
from limbeck.progress import Teller
from limbeck.recipe import read
from limbeck.report import Comparison, Protocol, Report, Row
from limbeck.run import run
from limbeck.tune import tune

HERE = Path(__file__).parent
RECIPES = {
    "recommend": HERE / "recommend.yaml",
    "fine-foods": HERE.parent / "recipes" / "classify_text-fine-foods.yaml",
    "shopping-reviews-zh": HERE.parent / "recipes" / "classify_text-shopping-reviews-zh.yaml",
    "tune": HERE / "tune.yaml",
    "pictures": HERE.parent / "recipes" / "classify_image-fashion-mnist.yaml",
    "few-labels": HERE.parent / "recipes" / "classify_image-fashion-mnist-few-labels.yaml",
    "transfer": HERE.parent / "recipes" / "classify_image-fashion-mnist-transfer.yaml",
}


def row(protocol: Protocol, role: str, name: str | None = None) -> Row:
    return next(r for r in protocol.rows if r.role == role and name in (None, r.name))


def mean(found: Row, metric: str) -> float:
    return float(found.metrics[metric].mean or 0.0)


def recommend(report: Report) -> list[Bar]:
    protocol = report.protocols[0]
    bars: list[Bar] = [("EASE ndcg@10", mean(row(protocol, "teacher"), "ndcg@10"), ">=", 0.333)]
    for name, keeps in (("mf-8", 0.92), ("mf-16", 0.96), ("mf-64", 0.975)):
        told = next(c for c in protocol.comparisons if c.student == name)
        gain = mean(row(protocol, "student", name), "ndcg@10") / mean(row(protocol, "scratch", name), "ndcg@10") - 1
        bars += [
            (f"{name} keeps", float(told.retention or 0), ">=", keeps),
            (f"{name} over its twin", gain, ">=", 0.05),
            (f"{name} paired p", float(told.p_value or 0), "<", 0.01),
        ]
    return bars


def text(report: Report) -> list[Bar]:
    protocol = report.protocols[0]
    teacher, linear = row(protocol, "teacher"), row(protocol, "trivial", "tfidf_linear")
    bars: list[Bar] = [
        ("teacher auc over TF-IDF + LR", mean(teacher, "auc") - mean(linear, "auc"), ">=", 0.02),
        (
            "teacher over TF-IDF + LR, paired p",
            float(protocol.gate.p_value if protocol.gate and protocol.gate.p_value is not None else 1),
            "<",
            0.05,
        ),
    ]
    # One student must hold them all; the others are shown beside it.
    each = [student(protocol, told, teacher, linear) for told in protocol.comparisons]
    best = next((some for some in each if all(held(bar) for bar in some)), None)
    return [*bars, *(bar for some in each for bar in some if best is None or some is best)]


def student(protocol: Protocol, told: Comparison, teacher: Row, linear: Row) -> list[Bar]:
    name = told.student
    mine, twin = row(protocol, "student", name), row(protocol, "scratch", name)
    faster = float(mine.rows_per_second or 0) / float(teacher.rows_per_second or 1)
    return [
        (f"{name} teacher's parameters over its own", (teacher.parameters or 0) / (mine.parameters or 1), ">=", 20),
        (f"{name} throughput over the teacher's", faster, ">=", 20),
        (f"{name} lift retention", float(told.lift_retention or 0), ">=", 0.93),
        (f"{name} auc over its twin", mean(mine, "auc") - mean(twin, "auc"), ">=", 1e-9),
        (f"{name} auc over TF-IDF + LR", mean(mine, "auc") - mean(linear, "auc"), ">=", 1e-9),
    ]


def pictures(report: Report) -> list[Bar]:
    protocol = report.protocols[0]
    teacher, told = row(protocol, "teacher"), protocol.comparisons[0]
    mine, twin = row(protocol, "student", told.student), row(protocol, "scratch", told.student)
    held_by = {one.precision: one.parity for one in report.artifacts if one.student == told.student}
    int8 = held_by.get("int8", {"student_headline": 1.0, "headline": 0.0})
    faster = float(mine.rows_per_second or 0) / float(teacher.rows_per_second or 1)
    return [
        ("teacher accuracy", mean(teacher, "accuracy"), ">=", 0.94),
        ("teacher's minutes of training", float(teacher.train_seconds or 0) / 60, "<=", 45),
        ("student's parameters", float(mine.parameters or 0), "<=", 60_000),
        ("student keeps", float(told.retention or 0), ">=", 0.98),
        ("student over its twin", mean(mine, "accuracy") - mean(twin, "accuracy"), ">=", 1e-9),
        ("student over its twin, paired p", float(told.p_value or 0), "<", 0.05),
        ("student's throughput over the teacher's, one core", faster, ">=", 20),
        ("accuracy lost to int8", int8["student_headline"] - int8["headline"], "<=", 0.003),
    ]


def few_labels(report: Report) -> list[Bar]:
    protocol = report.protocols[0]
    told = protocol.comparisons[0]
    mine, twin = row(protocol, "student", told.student), row(protocol, "scratch", told.student)
    return [
        ("student over its twin", mean(mine, "accuracy") - mean(twin, "accuracy"), ">=", 0.04),
        ("student over its twin, paired p", float(told.p_value or 0), "<", 0.05),
    ]


def transfer(report: Report) -> list[Bar]:
    protocol = report.protocols[0]
    teacher, alone = row(protocol, "teacher"), row(protocol, "scratch", "residual")
    told = next(one for one in protocol.comparisons if one.student == "convolution")
    return [
        ("teacher over a network from nothing", mean(teacher, "accuracy") - mean(alone, "accuracy"), ">=", 1e-9),
        ("convolution keeps", float(told.retention or 0), ">=", 0.98),
    ]


def tuned(report: Report) -> list[Bar]:
    student, twin = report.protocols[0].tunings
    bars: list[Bar] = [("twin's trials over the student's", twin.trials / student.trials, ">=", 1.0)]
    for word, picked in (("best", student.best), ("no larger", student.lean)):
        if picked is not None:
            one = picked.candidate
            bars += [
                (f"{word}: {name}", float(getattr(one, name) or 0), "<=", limit)
                for name, limit in student.budget.items()
            ]
            gain = f"over mf-16 {picked.difference} (p {picked.p_value})"
            print(f"{word}: {picked.name} {one.settings} {one.precision}, {gain}")
    lean, given = student.lean, student.given
    found = (
        lean is not None and given is not None and lean.candidate.bytes <= given.bytes and (lean.difference or 0) > 0
    )
    return [
        *bars,
        (
            "no larger than mf-16 and better, or a plain no",
            float(found or "found none" in report.verdict),
            ">=",
            1.0,
        ),
    ]


BARS: dict[str, Callable[[Report], list[Bar]]] = {
    "recommend": recommend,
    "fine-foods": text,
    "shopping-reviews-zh": text,
    "tune": tuned,
    "pictures": pictures,
    "few-labels": few_labels,
    "transfer": transfer,
}


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("name", choices=list(RECIPES))
    asked.add_argument("--out", type=Path)
    told = asked.parse_args()
    recipe, _ = read(RECIPES[told.name])
    out = told.out or Path("runs") / f"bench-{told.name}"
    flow = tune if told.name == "tune" else run
    report = flow(recipe, base=RECIPES[told.name].parent, out=out, teller=Teller(quiet=False))
    code = show(BARS[told.name](report))
    for protocol in report.protocols:
        for one in protocol.rows:
            figures = one.metrics[protocol.headline]
            print(f"{protocol.name:16} {one.role:8} {one.name:14} {figures.mean:.4f} sd {number(figures.sd)}")
    print(report.verdict)
    print(json.dumps({"seconds": dict(report.seconds), "resamples": verdict.RESAMPLES}))
    return code


if __name__ == "__main__":
    sys.exit(main())
