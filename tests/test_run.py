"""The straight line from a recipe to a report, on a small shop's purchases and under two protocols."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from limbeck import teach as teaching
from limbeck.artifact import Artifact
from limbeck.errors import GateRefused
from limbeck.recipe import parse
from limbeck.report import Report
from limbeck.run import run

RECIPE = """
task: recommend
data: {path: purchases.csv, roles: {user: who, item: what, time: when}}
protocols:
  - {name: random, split: {kind: user_random, shares: [6, 2, 2]}, splits: [0, 1]}
  - {name: last, split: {kind: leave_last_out}, options: {history: known}}
teacher: {model: ease, l2: 10.0}
students:
  - {model: matrix_factorisation, name: mf, width: 4, choose: {dropout: [0.0, 0.3]}}
  - {model: sasrec, name: sequence, width: 8, layers: 1, length: 10, training: {epochs: 3}}
objective: [{loss: hard, weight: 0.3}, {loss: listwise_kl, temperature: 0.2}]
training: {epochs: 12, batch_size: 64, learning_rate: 0.05, check_every: 4}
seeds: [4, 7]
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Customers of three tastes; a few items are bought by one customer only, so protocols differ in catalogue."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    rows = []
    for user in range(80):
        mine = draw.permutation(20)[:10] + 20 * (user % 3)
        rows += [(f"u{user}", f"i{item}", int(draw.integers(10**6))) for item in mine]
        rows.append((f"u{user}", f"rare{user}", int(draw.integers(10**6))))
    table = pa.table(dict(zip(("who", "what", "when"), map(list, zip(*rows, strict=True)), strict=True)))
    csv.write_csv(table, tmp_path / "purchases.csv")
    return tmp_path


def test_a_run_ends_in_a_report_and_artifacts_and_a_second_one_trains_nothing(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, _ = parse(RECIPE)
    first = run(recipe, base=shop, out=shop / "out")
    random, last = first.protocols
    assert [(r.role, r.name) for r in last.rows] == [
        ("trivial", "popularity"),
        ("teacher", "ease"),
        ("student", "mf"),
        ("scratch", "mf"),
        ("student", "sequence"),
        ("scratch", "sequence"),
    ]
    assert {r.name for r in random.rows if r.precision == "fp32" and r.role == "student"} == {"mf", "sequence"}
    assert random.splits == (0, 1)
    assert random.seeds == (4, 7)
    assert Report.load(shop / "out") == Report.load(shop / "out" / "report.json")
    for name in ("report.md", "report.html", "rows.json"):
        assert (shop / "out" / name).stat().st_size > 100
    for name in ("mf", "sequence"):
        assert Artifact.open(shop / "out" / "artifact" / name).check_golden() < 1e-4

    def nothing_left(*_: object, **__: object) -> None:
        raise AssertionError("a finished step was done again")

    monkeypatch.setattr(teaching, "_make", nothing_left)
    second = run(recipe, base=shop, out=shop / "out")
    figures = [[row.metrics for row in protocol.rows] for protocol in first.protocols]
    assert [[row.metrics for row in protocol.rows] for protocol in second.protocols] == figures
    assert second.verdict == first.verdict


def test_an_artifact_holds_no_path_of_this_machine(shop: Path) -> None:
    short = RECIPE.replace("splits: [0, 1]", "splits: [0]").replace("seeds: [4, 7]", "seeds: [4]")
    recipe, _ = parse(short.replace("path: purchases.csv", f"path: {shop / 'purchases.csv'}"))
    run(recipe, base=shop, out=shop / "out")
    for file in (shop / "out" / "artifact").rglob("*"):
        assert file.is_dir() or str(shop).encode() not in file.read_bytes(), file


def test_a_teacher_no_better_than_popularity_teaches_nobody_unless_told_so(shop: Path) -> None:
    weak = RECIPE.replace("{model: ease, l2: 10.0}", "{model: popularity}").replace("splits: [0, 1]", "splits: [0]")
    with pytest.raises(GateRefused, match="popularity"):
        run(parse(weak)[0], base=shop, out=shop / "out")
    assert not (shop / "out" / "report.json").exists()
    told = weak.replace("{model: popularity}", "{model: popularity, allow_weak: true}")
    found = run(parse(told)[0], base=shop, out=shop / "out")
    assert found.protocols[0].overridden
    assert "does not beat the trivial baselines" in found.verdict
    assert json.loads((shop / "out" / "report.json").read_text())["protocols"][0]["gate"]["passed"] is False
