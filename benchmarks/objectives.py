"""What each objective is worth: eight a job beside the honest twin and plain distillation, at equal pressure.

    python benchmarks/objectives.py [recommend|text|pictures ...] [--out DIR] [--write]

Every student of a job's recipe is the same but for its objective; the one named `kl` or `listwise_kl` is plain
distillation. Resumable: finished steps are found. `--write` keeps the figures in docs/objectives.json, from which
`make docs` draws the table; figures of jobs that were not asked for stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck import atomic, verdict
from limbeck.outcome import Outcome
from limbeck.page.number import number
from limbeck.progress import Teller
from limbeck.recipe import read
from limbeck.run import begin, descended, labelled_split, outcome_of
from limbeck.task import Task

HERE = Path(__file__).parent
KEPT = HERE.parent / "docs" / "objectives.json"
JOBS = ("recommend", "text", "pictures")
PLAIN = ("kl", "listwise_kl")
SURE = 0.05


def outcome(job: str, out: Path) -> tuple[Task, Outcome]:
    """A job's students and twins, judged on test rows."""
    file = HERE / "objectives" / f"{job}.yaml"
    recipe, _ = read(file)
    desk, bound = begin(recipe, file.parent, out / job, Teller(quiet=False), flow="run")
    protocol = recipe.protocols[0]
    splits = [descended(desk, recipe, labelled_split(desk, bound, protocol, seed)) for seed in protocol.splits]
    return desk.task, outcome_of(desk, recipe, protocol, splits)


def figures(job: str, task: Task, found: Outcome) -> list[dict[str, Any]]:
    """One line a loss. Many comparisons are made, so their p-values are Holm's, over all of a job's."""
    metric, sign = task.metrics[task.headline], 1 if task.higher_is_better else -1
    plain = next(name for name in found.students if name in PLAIN)
    told: list[dict[str, Any]] = []
    tests: dict[tuple[int, str], tuple[float, float]] = {}
    for place, name in enumerate(found.students):
        student = found.entry("student", name)
        value = verdict.spread(metric, student.test)
        line = {"job": job, "loss": name, "metric": task.headline, "value": value.mean, "deviation": value.sd}
        for rival, other in (("kd", found.entry("student", plain)), ("twin", found.entry("scratch", name))):
            line[rival] = verdict.spread(metric, other.test).mean
            if other is not student:
                test = verdict.paired(metric, student.test, other.test)
                tests[place, rival] = (sign * test.difference, test.p_value)
        told.append(line)
    adjusted = dict(zip(tests, holm([p_value for _, p_value in tests.values()]), strict=True))
    for place, line in enumerate(told):
        for rival in ("kd", "twin"):
            gain, _ = tests.get((place, rival), (0.0, 1.0))
            line[f"p_{rival}"] = adjusted.get((place, rival), 1.0)
            line[f"beats_{rival}"] = gain > 0 and line[f"p_{rival}"] < SURE
    return told


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def main() -> int:
    """Run the jobs and show their table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("jobs", nargs="*", default=list(JOBS), metavar="job")
    asked.add_argument("--out", type=Path, default=Path("runs") / "bench-objectives")
    asked.add_argument("--write", action="store_true")
    told = asked.parse_args()
    for job in told.jobs:
        start = time.monotonic()
        task, found = outcome(job, told.out)
        lines = figures(job, task, found)
        teacher = verdict.spread(task.metrics[task.headline], found.entry("teacher").test).mean
        print(f"{job}: teacher {teacher:.4f} {task.headline}, {time.monotonic() - start:.0f} s this time")
        for one in lines:
            beats = " and ".join(rival for rival in ("kd", "twin") if one[f"beats_{rival}"]) or "neither"
            print(
                f"  {one['loss']:26} {one['value']:.4f} sd {number(one['deviation'])}  plain {one['kd']:.4f}"
                f" (p {one['p_kd']:.3f})  twin {one['twin']:.4f} (p {one['p_twin']:.3f})  beats {beats}"
            )
        if told.write:
            keep(job, lines)
    return 0


def keep(job: str, lines: list[dict[str, Any]]) -> None:
    """Put a job's figures in the place of its earlier ones; others' stay, also those written meanwhile."""
    with atomic.locked(KEPT.parent, alone=True):
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else []
        ordered = sorted([*(one for one in kept if one["job"] != job), *lines], key=lambda one: JOBS.index(one["job"]))
        atomic.replace(KEPT, (json.dumps(ordered, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
