"""The straight line from a recipe to a report, on a small shop's purchases and under two protocols."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from pyarrow import csv

from limbeck import teach as teaching
from limbeck import upkeep
from limbeck.artifact import Artifact
from limbeck.card import recipe_text
from limbeck.errors import GateRefused, UserError
from limbeck.model import Model
from limbeck.plan import plan
from limbeck.recipe import parse
from limbeck.report import Report
from limbeck.run import _check_owner, labelled, relabel, run
from limbeck.store import Store
from limbeck.verbs import label as labelling

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
    written = {name: (shop / "out" / name).read_bytes() for name in ("report.json", "report.md", "report.html")}
    second = run(recipe, base=shop, out=shop / "out")
    assert {name: (shop / "out" / name).read_bytes() for name in written} == written
    figures = [[row.metrics for row in protocol.rows] for protocol in first.protocols]
    assert [[row.metrics for row in protocol.rows] for protocol in second.protocols] == figures
    assert second.verdict == first.verdict


def test_an_artifact_holds_no_path_of_this_machine(shop: Path) -> None:
    short = RECIPE.replace("splits: [0, 1]", "splits: [0]").replace("seeds: [4, 7]", "seeds: [4]")
    recipe, _ = parse(short.replace("path: purchases.csv", f"path: {shop / 'purchases.csv'}"))
    run(recipe, base=shop, out=shop / "out")
    for file in (shop / "out" / "artifact").rglob("*"):
        assert file.is_dir() or str(shop).encode() not in file.read_bytes(), file


TEXTS = """
task: classify_text
data: {path: rows.csv, roles: {text: words, label: mood}}
protocols: [{name: random, split: {kind: random, shares: [6, 2, 2]}}]
teacher: {model: bag_of_embeddings, width: 9, allow_weak: true}
students: [{model: bag_of_embeddings, name: small, width: 4, vocabulary: 50}]
objective: [{loss: hard}, LOSS]
training: {epochs: 2}
seeds: [0]
"""


@pytest.fixture
def moods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    rows = [f"{'good fine' if i % 2 else 'bad poor'} thing {i},{'up' if i % 2 else 'down'}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("words,mood\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_taps_and_projections_are_absent_from_the_artifact(moods: Path) -> None:
    text = TEXTS.replace("LOSS", "{loss: fit_net, student: head.0, teacher: head.0}")
    run(parse(text)[0], base=moods, out=moods / "out")
    graph = onnx.load(moods / "out" / "artifact" / "small" / "model.onnx").graph
    assert [output.name for output in graph.output] == ["logits"]
    folder = next((moods / "out" / "steps" / "students").iterdir())
    held = sorted(tuple(one.dims) for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT and one.dims)
    state = Model.load(folder).module.state_dict()  # student and twin are of one shape
    assert held == sorted(tuple(value.shape) for value in state.values() if value.is_floating_point())


def test_a_fused_head_teaches_in_a_recipe_what_the_plain_divergence_teaches(moods: Path) -> None:
    found = []
    for loss in ("{loss: kl, temperature: 2.0}", "{loss: linear_head, student: head.4, temperature: 2.0}"):
        out = moods / loss[7:10]
        run(parse(TEXTS.replace("LOSS", loss))[0], base=moods, out=out)
        (one,) = [
            folder
            for folder in (out / "steps" / "students").iterdir()
            if {"kl", "linear_head"} & json.loads((folder / "training.json").read_text())["curves"]["terms"].keys()
        ]
        found.append(Model.load(one).module.state_dict())
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4, atol=1e-5)


def test_the_last_of_three_generations_is_judged_and_each_learnt_from_the_one_before(shop: Path) -> None:
    text = RECIPE.replace("splits: [0, 1]", "splits: [0]").replace("choose: {dropout: [0.0, 0.3]}", "generations: 3")
    recipe, _ = parse(text)
    steps, students = shop / "out" / "steps" / "students", 2 * 2 * 4 + 2 * 2 * 2
    first = run(recipe, base=shop, out=shop / "out")
    assert len(list(steps.iterdir())) == students
    origins = [json.loads(file.read_text()) for file in (shop / "cache" / "stores").glob("*/origins.json")]
    assert len(origins) == 2 + 2 * 2 * 2
    assert all(step.done for step in plan(recipe, shop, shop / "out"))
    assert sum("generation 3, seed 7" in step.name for step in plan(recipe, shop, shop / "fresh")) == 2
    one, _ = parse(text.replace("generations: 3", "dropout: 0.0"))
    plain = run(one, base=shop, out=shop / "plain")
    told = [{r.name: r.metrics for r in report.protocols[0].rows if r.role == "student"} for report in (first, plain)]
    assert told[0]["mf"] != told[1]["mf"]
    assert told[0]["sequence"] == told[1]["sequence"]
    twins = [{r.name: r.metrics for r in report.protocols[0].rows if r.role == "scratch"} for report in (first, plain)]
    assert twins[0] == twins[1]


def test_peers_and_averages_teach_in_a_recipe_and_the_twin_has_none(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = RECIPE.replace("splits: [0, 1]", "splits: [0]").replace("seeds: [4, 7]", "seeds: [4]")
    own = "{model: matrix_factorisation, name: mf, width: 4, peers: 2, training: {ema: 0.9}, objective: [{loss: hard}, "
    own += "{loss: listwise_kl, from: peers, weight: 0.5}, {loss: listwise_kl, from: average}]}"
    lines = [f"  - {own}" if "choose" in line else line for line in text.splitlines() if "sequence" not in line]
    trained: list[tuple[str, int]] = []
    descend = teaching.distill

    def counting(*args: Any, **more: Any) -> Any:
        trained.append((more["watch"].name, len(more["peers"])))
        return descend(*args, **more)

    monkeypatch.setattr(teaching, "distill", counting)
    report = run(parse("\n".join(lines))[0], base=shop, out=shop / "out")
    assert [count for name, count in trained if "without a teacher" in name] == [0, 0]
    assert [count for name, count in trained if name == "mf"] == [2, 2]
    assert "from peers" in (shop / "out" / "artifact" / "mf" / "card.md").read_text()
    assert {row.name for row in report.protocols[0].rows if row.role == "student"} == {"mf"}


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


def test_a_report_says_what_the_work_cost_whoever_did_it(shop: Path) -> None:
    short = RECIPE.replace("splits: [0, 1]", "splits: [0]").replace("seeds: [4, 7]", "seeds: [4]")
    recipe, _ = parse("\n".join(line for line in short.splitlines() if "sasrec" not in line))
    start = time.monotonic()
    first = run(recipe, base=shop, out=shop / "out").seconds
    taken = time.monotonic() - start
    assert list(first) == ["rows", "baselines", "teacher", "label", "distill", "scratch", "evaluate", "report"]
    assert all(seconds > 0 for seconds in first.values())
    assert 0.7 * taken < sum(first.values()) < 1.1 * taken
    again = run(recipe, base=shop, out=shop / "elsewhere").seconds
    for shared in ("baselines", "label"):
        assert again[shared] == first[shared], "found in the cache"
    assert (shop / "out" / "report.json").read_text().count('"report": ') == 1


TRAINED = "{model: text_convolution, vocabulary: 100, width: 16, channels: 8, length: 8, allow_weak: true}"

BROUGHT = """
task: classify_text
data: {path: reviews.csv, roles: {text: text, label: label}}
protocols: [{name: random, split: {kind: random, shares: [6, 2, 2], stratify: true}, splits: [0, 1]}]
teacher: {from: table, path: scores.csv, by: text, kind: probabilities, allow_weak: true}
students: [{model: bag_of_embeddings, name: bag, vocabulary: 40, width: 4, length: 8}]
objective: [{loss: hard}, {loss: kl}]
training: {epochs: 1, batch_size: 32}
seeds: [0]
"""


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reviews, and what somebody's model said of each."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 200)
    texts = [f"word{i} is {('bad', 'good')[y]}" for i, y in enumerate(label)]
    good = np.clip(label + draw.normal(size=200) * 0.2, 0.05, 0.95)
    csv.write_csv(pa.table({"text": texts, "label": [("bad", "good")[y] for y in label]}), tmp_path / "reviews.csv")
    csv.write_csv(pa.table({"text": texts, "bad": 1 - good, "good": good}), tmp_path / "scores.csv")
    return tmp_path


def test_one_repair_mends_a_store_that_serves_several_splits(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "SHARD_ROWS", 16)
    monkeypatch.setattr(labelling, "SHARD_BYTES", 1)
    both, _ = parse(BROUGHT.replace("by: text", "by: text, batch: 8"))
    one, _ = parse(BROUGHT.replace("by: text", "by: text, batch: 8").replace("splits: [0, 1]", "splits: [0]"))
    (first,) = labelled(one, base=reviews, out=reviews / "out")
    mine = set(first.store.records)
    labelled(both, base=reviews, out=reviews / "out")
    store = Store.open(first.store.folder)
    theirs = set(store.records) - mine
    assert len(store.origins) == 2
    assert mine
    assert theirs
    shards = store.folder / "shards"
    whole = {path: path.read_bytes() for path in shards.iterdir()}
    for shard in (min(mine), max(theirs)):
        place = shards / store.records[shard].file
        place.write_bytes(place.read_bytes()[:-1])
    gone = upkeep.discard(store.folder, upkeep.verify(store.folder))
    assert set(gone) == {min(mine), max(theirs)}
    assert not Store.open(store.folder).complete
    mended = relabel(store.folder)
    assert {path: path.read_bytes() for path in shards.iterdir()} == whole
    assert mended.complete
    assert upkeep.verify(store.folder) == []


def test_a_store_that_forgot_its_origins_says_so(reviews: Path) -> None:
    split, *_ = labelled(parse(BROUGHT)[0], base=reviews, out=reviews / "out")
    (split.store.folder / "origins.json").unlink()
    with pytest.raises(UserError, match="does not say what it was made from"):
        relabel(split.store.folder)


def test_two_processes_on_one_run_folder_do_every_step_once(reviews: Path) -> None:
    recipe = BROUGHT.replace(
        "{from: table, path: scores.csv, by: text, kind: probabilities, allow_weak: true}", TRAINED
    )
    (reviews / "recipe.yaml").write_text(recipe.replace("splits: [0, 1]", "splits: [0]"))
    command = [sys.executable, "-m", "limbeck", "run", str(reviews / "recipe.yaml"), "--out", str(reviews / "out")]
    going = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    ended = [process.communicate(timeout=200) for process in going]
    assert [process.returncode for process in going] == [0, 0], ended
    said = "".join(err for _, err in ended)
    assert "waiting for another process, which is at the same step" in said
    for trained in ("teacher text_convolution", "bag", "bag without a teacher"):
        assert said.count(f"  {trained}, seed 0: training on") == 1, said
    assert ended[0][0] == ended[1][0]
    assert not list(reviews.rglob(".tmp.*"))


def test_a_folder_keeps_to_one_question_about_one_source(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mine = parse("""
task: recommend
data: {path: buys.csv, roles: {user: u, item: i}}
protocols: [{name: random, split: {kind: user_random}}]
teacher: {model: ease}
students: [{model: matrix_factorisation, name: small}]
objective: [{loss: listwise_kl}]
""")[0]
    (out / "recipe.yaml").write_text(recipe_text(mine))
    (out / "run.json").write_text(json.dumps({"base": str(tmp_path)}))
    _check_owner(mine, out)
    reviews = mine.model_copy(update={"data": mine.data.model_copy(update={"path": "reviews.csv"})})
    for other in (reviews, mine.model_copy(update={"task": "classify_text"})):
        with pytest.raises(UserError, match=r"holds a run of 'recommend' on buys\.csv, and this is .* --out"):
            _check_owner(other, out)
