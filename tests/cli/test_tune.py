"""`limbeck tune`: what is typed becomes one call, and its report is shown."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli import main
from limbeck.report import Report

RECIPE = """\
task: recommend
data: {path: buys.csv, roles: {user: user, item: item}}
protocols: [{name: random, split: {kind: user_random}}]
teacher: {model: ease}
students: [{model: matrix_factorisation, width: 4, tune: {width: {low: 2, high: 8}}}]
objective: [{loss: hard}, {loss: listwise_kl}]
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the search was asked for, without it being made."""
    rows = [f"u{u},p{(u % 3) * 8 + (k * 5 + u * u) % 8}" for u in range(30) for k in range(10)]
    (tmp_path / "buys.csv").write_text("user,item\n" + "\n".join(dict.fromkeys(rows)) + "\n")
    (tmp_path / "shop.yaml").write_text(RECIPE)
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    calls: list[dict[str, Any]] = []

    def tune(recipe: Any, **more: Any) -> Report:
        calls.append({"recipe": recipe, **more})
        return Report(task="recommend", verdict="It found none.")

    monkeypatch.setattr(importlib.import_module("limbeck.tune"), "tune", tune)
    return calls


def test_a_search_has_a_folder_of_its_own_beside_the_runs(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "shop.yaml", "--set", "tune.trials=7", "--quiet"]) == 0
    assert "It found none." in capsys.readouterr().out
    (call,) = asked
    assert call["recipe"].tune.trials == 7
    assert (call["out"], call["storage"]) == (Path("runs/shop-tune"), None)


def test_a_search_may_be_kept_elsewhere_and_answers_in_json(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "shop.yaml", "--out", "there", "--storage", "sqlite:///mine.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "It found none."
    (call,) = asked
    assert (call["out"], call["storage"]) == (Path("there"), "sqlite:///mine.db")


def test_a_range_that_cannot_be_is_told_before_any_work(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "shop.yaml", "--set", "students.0.tune={wdth: {low: 1, high: 2}}"]) == 2
    assert "did you mean 'width'?" in capsys.readouterr().err
    assert not asked
