"""Any to any: every family of table models teaches every other, each beside the student's honest twin.

    python benchmarks/any_to_any.py [juice|films ...] [--out DIR] [--families NAME ...]

Two questions on real rows: whether one of 240 people likes a film (MovieLens 100K, ratings of 4 and 5), and whether a
brand of orange juice sells more than it usually does in this shop (Dominick's, 20,000 weeks of shop and brand), where
the teacher also labels rows that MUNGE made. Resumable: finished steps are found. The table is also kept as
`any_to_any.md` in the folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limbeck import verdict
from limbeck.features import with_sides
from limbeck.fetch import open_pack
from limbeck.outcome import Outcome
from limbeck.progress import Teller
from limbeck.recipe import Recipe
from limbeck.run import begin, descended, labelled_split, outcome_of
from limbeck.task import Source, Task

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "linear_regression": {},
    "logistic_regression": {},
    "svm_linear": {"model": "support_vector_machine", "kernel": "linear", "penalty": 0.01},
    "svm_gaussian": {"model": "support_vector_machine", "rows": 3000},
    "naive_bayes": {},
    "nearest_neighbours": {},
    "decision_tree": {"depth": 4},
    "random_forest": {"trees": 50},
    "gradient_boosting": {"rounds": 150},
    "bagging": {"count": 10},
    "voting": {},
    "stacking": {"folds": 3},
    "mlp": {"model": "embedding_mlp"},
}
"""Title -> its settings, alike for teacher and student."""
PEOPLE, WEEKS, MADE = 240, 20_000, 10_000
SURE = 0.05


def films(file: Path) -> dict[str, Any]:
    """Ratings of some people; what is known of people and films, and how each liked and was liked before."""
    source = open_pack("ml-100k")
    assert isinstance(source, Source)
    table, _ = with_sides(source)
    people = np.unique(table.column("user_id").to_numpy(zero_copy_only=False).astype(str))
    drawn = np.random.default_rng(0).choice(people, PEOPLE, replace=False)
    table = table.filter(pc.is_in(table.column("user_id"), value_set=pa.array(drawn)))
    pq.write_table(table, file)
    left_out = dict.fromkeys(("user_id", "item_id", "movie_title", "zip_code"), "left_out")
    roles = {"user": "user_id", "item": "item_id", "label": "rating", "time": "timestamp"}
    columns = {**left_out, "age": "number"}
    # MUNGE makes no people and no films, so none of its rows would have a past.
    return {
        "roles": roles,
        "unlabelled": [],
        "options": {"positive": 4, "rates": True, "history": 0, "columns": columns},
    }


def juice(file: Path) -> dict[str, Any]:
    """Weeks of a brand in a shop, with prices and promotions; more is what lies above the median of all its weeks."""
    source = open_pack("orange-juice")
    assert isinstance(source, Source)
    table = source.rows.table
    series = table.column("series").to_numpy(zero_copy_only=False)
    units = table.column("log_units").to_numpy()
    _, which = np.unique(series.astype(str), return_inverse=True)
    usual = np.array([np.median(units[which == s]) for s in range(which.max() + 1)])
    table = table.drop_columns(["series", "log_units"]).append_column("more", pa.array(units > usual[which]))
    pq.write_table(table.take(np.sort(np.random.default_rng(0).choice(len(table), WEEKS, replace=False))), file)
    return {"roles": {"label": "more"}, "unlabelled": [{"make": "munge", "count": MADE}], "options": {}}


JOBS = {"juice": juice, "films": films}


def recipe(job: str, teacher: str, file: Path, families: Sequence[str], *, made: Mapping[str, Any]) -> Recipe:
    """One teacher and all students."""
    students = [{"model": name, **FAMILIES[name], "name": name} for name in families]
    said = {
        "task": "behaviour",
        "data": {"path": file.name, "roles": made["roles"], "unlabelled": made["unlabelled"]},
        "options": made["options"],
        "protocols": [{"name": job, "split": {"kind": "random", "shares": [6, 2, 2]}, "splits": [0]}],
        "teacher": {"model": teacher, **FAMILIES[teacher], "name": teacher, "allow_weak": True},
        "students": students,
        "objective": [{"loss": "hard", "weight": 0.3}, {"loss": "kl", "weight": 0.7, "temperature": 1.0}],
        "training": {"epochs": 5, "batch_size": 256, "learning_rate": 2e-3},
        "seeds": [0],
    }
    return Recipe.model_validate(said)


def outcomes(job: str, out: Path, families: Sequence[str]) -> tuple[Task, dict[str, Outcome]]:
    """Teacher -> its students and their twins, judged on test rows. Twins are trained once, for all teachers."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{job}.parquet"
    made = JOBS[job](file)
    found = {}
    for teacher in families:
        told = recipe(job, teacher, file, families, made=made)
        desk, bound = begin(told, out, out / job, Teller(quiet=False), flow="run")
        split = descended(desk, told, labelled_split(desk, bound, told.protocols[0], 0))
        found[teacher] = outcome_of(desk, told, told.protocols[0], [split])
    return desk.task, found


def table(task: Task, found: Mapping[str, Outcome]) -> list[str]:
    """Markdown: a row a teacher, a column a student; in a cell the student, less its twin; `*` where that is sure."""
    metric = task.metrics[task.headline]
    names = list(found)
    first = found[names[0]]
    twins = {name: verdict.spread(metric, first.entry("scratch", name).test).mean for name in names}
    head = [f"| {task.headline} | teacher |", *(f" {name} |" for name in names)]
    lines = ["".join(head), "|" + "---|" * (len(names) + 2)]
    lines.append("| without a teacher | |" + "".join(f" {twins[name]:.4f} |" for name in names))
    for teacher, one in found.items():
        cells = []
        for name in names:
            student, twin = one.entry("student", name), one.entry("scratch", name)
            test = verdict.paired(metric, student.test, twin.test)
            value = verdict.spread(metric, student.test).mean
            cells.append(f" {value:.4f} ({value - twins[name]:+.4f}{'*' if test.p_value < SURE else ''}) |")
        own = verdict.spread(metric, one.entry("teacher").test).mean
        lines.append(f"| {teacher} | {own:.4f} |" + "".join(cells))
    return lines


def main() -> int:
    """Run the jobs and show their tables."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("jobs", nargs="*", default=list(JOBS), metavar="job")
    asked.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES), metavar="NAME")
    asked.add_argument("--out", type=Path, default=Path("runs") / "bench-any")
    told = asked.parse_args()
    pages = []
    for job in told.jobs:
        start = time.monotonic()
        lines = table(*outcomes(job, told.out, told.families))
        pages += [f"## {job}", "", *lines, ""]
        print("\n".join(lines))
        print(f"{job}: {time.monotonic() - start:.0f} s this time")
    (told.out / "any_to_any.md").write_text("\n".join(pages), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
