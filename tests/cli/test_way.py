"""One small run, and every command that stands on it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli import main

RECIPE = """\
task: recommend
data:
  path: buys.csv
  roles: {user: user, item: item}
protocols:
  - {name: random, split: {kind: user_random}}
teacher: {model: ease, l2: 20.0, allow_weak: true}
students:
  - {model: matrix_factorisation, name: small, width: 4, choose: {dropout: [0.0, 0.5]}}
objective:
  - {loss: hard}
  - {loss: listwise_kl, temperature: 0.1}
training: {epochs: 2, learning_rate: 0.1}
seeds: [0, 1]
export: {precisions: [fp32]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("way")
    rows = [f"u{u},p{(u % 3) * 8 + (k * 5 + u * u) % 8}" for u in range(45) for k in range(10)]
    (folder / "buys.csv").write_text("user,item\n" + "\n".join(dict.fromkeys(rows)) + "\n")
    (folder / "shop.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


@pytest.fixture
def told(made: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command that must succeed with `--json`, and answers what it said."""

    def run(*arguments: object) -> Any:
        code = main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


Told = Callable[..., Any]


def test_a_plan_knows_what_is_done(made: Path, told: Told) -> None:
    before = told("run", "shop.yaml", "--plan")
    assert not any(step["done"] for step in before["steps"])
    kinds = [step["kind"] for step in before["steps"]]
    # Two choices on the first seed and one more seed, for the student and for its twin.
    assert kinds == ["baseline", "teacher", "label", *["student"] * 3, *["scratch"] * 3, "evaluate", "report"]
    timed = [step["seconds"] for step in before["steps"] if step["kind"] != "report"]
    assert all(seconds > 0 for seconds in timed)
    assert not (made / "runs").exists(), "a plan does nothing"
    report = told("run", "shop.yaml")
    assert report["out"] == "runs/shop"
    after = told("run", "shop.yaml", "--plan")
    assert all(step["done"] for step in after["steps"])
    assert after["bytes"] == 0
    more = told("run", "shop.yaml", "--plan", "--set", "seeds=[0, 1, 2]")
    todo = [step["name"] for step in more["steps"] if not step["done"] and step["kind"] in ("student", "scratch")]
    assert len(todo) == 2
    assert all("seed 2" in name for name in todo)
    other = told("run", "shop.yaml", "--plan", "--set", "teacher.l2=30.0")
    assert {step["kind"] for step in other["steps"] if step["done"]} == {"baseline", "scratch"}
    weight = next(step["bytes"] for step in other["steps"] if step["kind"] == "label")
    rows, items = 45, 24
    assert weight == rows * (2 * items + 16 + 8), "float16 scores, the key, and whose each row is"


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and nobody who would fill it."""

    def fetched(*_: object) -> None:
        raise AssertionError("a plan fetches nothing")

    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("limbeck.fetch.get_pack", fetched)
    monkeypatch.setattr("limbeck.pretrained.bring_folder", fetched)
    monkeypatch.setattr("limbeck.models.transformer.bring_folder", fetched)


def test_a_plan_fetches_no_rows_and_names_every_step(made: Path, told: Told, nothing_here: None) -> None:
    text = RECIPE.replace("path: buys.csv\n  roles: {user: user, item: item}", "pack: ml-100k")
    (made / "films.yaml").write_text(text)
    said = told("run", "films.yaml", "--plan")
    kinds = [step["kind"] for step in said["steps"]]
    own = told("run", "shop.yaml", "--plan", "--out", "new")["steps"]
    assert kinds == ["fetch", *(step["kind"] for step in own)]
    named, known = (
        [step["name"] for step in steps if step["kind"] in ("teacher", "student", "scratch")]
        for steps in (said["steps"], own)
    )
    assert named == known
    assert len(set(named)) == len(named), "no two lines are alike"
    assert named[1:4] == ["small (dropout 0.0)", "small (dropout 0.5)", "small, seed 1"]
    fetch, baseline, *_ = said["steps"]
    assert fetch["name"] == "ml-100k"
    assert fetch["note"].startswith("2.1 MB not here yet: 100,000 ratings")
    assert baseline["note"] == "rows unknown"
    assert said["seconds"] is None


def test_a_plan_fetches_no_weights_and_tells_what_else_it_can(made: Path, told: Told, nothing_here: None) -> None:
    lines = [f"{'good' if i % 2 else 'bad'} thing number {i},{i % 2}" for i in range(60)]
    (made / "reviews.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (made / "reviews.yaml").write_text(
        "task: classify_text\ndata: {path: reviews.csv, roles: {text: text, label: label}}\n"
        "protocols: [{name: random, split: {kind: random}}]\nteacher: {model: transformer}\n"
        "students: [{model: bag_of_embeddings, width: 4}]\nobjective: [{loss: hard}, {loss: kl}]\nseeds: [0, 1]\n"
    )
    steps = told("run", "reviews.yaml", "--plan")["steps"]
    notes = {step["kind"]: (step["seconds"], step["note"]) for step in steps}
    assert [step["kind"] for step in steps[:1]] == ["fetch"]
    assert notes["fetch"] == (None, "83.5 MB of weights not here yet")
    assert notes["teacher"] == notes["label"] == (None, "needs pack:minilm")
    assert notes["student"][0] > 0
    assert notes["scratch"][0] > 0


def test_steps_by_themselves_find_what_the_run_did(made: Path, told: Told) -> None:
    told("run", "shop.yaml")
    (store,) = told("label", "shop.yaml")
    assert store["rows"] == 45
    before = {path: path.stat().st_mtime_ns for path in (made / "runs/shop/steps/students").iterdir()}
    found = told("distill", "shop.yaml")
    assert [one["role"] for one in found] == ["student", "student", "scratch", "scratch"]
    assert {path: path.stat().st_mtime_ns for path in (made / "runs/shop/steps/students").iterdir()} == before
    (left,) = told("export", "runs/shop")
    assert left["path"] == "runs/shop/artifact/small"
    assert left["precision"] == "fp32"


def test_artifact_model_and_store_are_judged_by_one_function(made: Path, told: Told) -> None:
    told("run", "shop.yaml")
    (artifact,) = told("export", "runs/shop")
    models = [one["folder"] for one in told("distill", "shop.yaml") if one["role"] == "student"]
    arguments = [part for path in [artifact["path"], *models] for part in ("--predictor", path)]
    judged = told("evaluate", "shop.yaml", *arguments)["judged"]
    headlines = [one["metrics"]["ndcg@10"] for one in judged]
    assert min(abs(headlines[0] - each) for each in headlines[1:]) < 1e-6
    (store,) = told("label", "shop.yaml")
    (teacher,) = told("evaluate", "shop.yaml", "--predictor", store["store"], "--part", "train")["judged"]
    assert 0 < teacher["metrics"]["ndcg@10"] <= 1


def test_every_training_says_its_seed_and_what_has_none_does_not(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", "shop.yaml", "--out", "runs/seeds", "--set", "teacher.l2=21.0"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "training on" in line]
    assert "  teacher ease: training on 45 rows" in said
    assert "  small (dropout 0.0), seed 0: training on 45 rows" in said
    assert len(said) == len(set(said)) == 1 + 2 * 3


def test_an_artifact_is_not_judged_on_rows_it_may_have_learnt_from(
    made: Path, told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    told("run", "shop.yaml")
    (artifact,) = told("export", "runs/shop")
    ask = ["evaluate", "shop.yaml", "--predictor", artifact["path"]]
    own = told(*ask, "--split", 0)
    assert own == told(*ask)
    assert main([*ask, "--split", "1"]) == 2
    said = capsys.readouterr().err
    assert "was taught on another division of these rows (protocol 'random', split 0)" in said
    assert main([*ask, "--set", "protocols.0.split.shares=[6, 2, 2]"]) == 2
    assert "another division" in capsys.readouterr().err
    lines = (made / "buys.csv").read_text().splitlines()
    (made / "later.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert told(*ask, "--split", 1, "--set", "data.path=later.csv")["judged"], "of other files nothing is known"


def test_runs_are_compared_on_a_page(made: Path, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    told("run", "shop.yaml")
    (made / "runs/other").mkdir()
    (made / "runs/other/report.json").write_text((made / "runs/shop/report.json").read_text())
    said = told("compare", "runs/shop", "runs/other", "--out", "both.html")
    assert [one["run"] for one in said["runs"]] == ["shop", "other"]
    assert "other" in (made / "both.html").read_text()
    assert main(["compare", "runs/none"]) == 2
    assert "no runs/none" in capsys.readouterr().err


def test_predictions_are_written_or_printed(made: Path, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    told("run", "shop.yaml")
    (made / "ask.jsonl").write_text('{"user": "u1", "history": ["p1"]}\n{"user": "stranger", "history": []}\n')
    said = told("predict", "runs/shop", "ask.jsonl", "--out", "answers.jsonl", "--top", 3)
    assert said["rows"] == 2
    assert main(["predict", "runs/shop", "ask.jsonl", "--top", "3"]) == 0
    lines = capsys.readouterr().out
    assert lines == (made / "answers.jsonl").read_text()
    assert [len(json.loads(line)["items"]) for line in lines.splitlines()] == [3, 3]


def test_a_hurt_store_is_found_and_mended(made: Path, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    (store,) = told("label", "shop.yaml")
    shard = next(Path(store["store"], "shards").glob("*.arrow"))
    whole = shard.read_bytes()
    assert told("store", "verify")["damages"] == []
    shard.write_bytes(whole[:-9] + b"x" + whole[-8:])
    assert main(["store", "verify"]) == 2
    assert shard.name in capsys.readouterr().err
    assert [one["store"] for one in told("store", "repair")] == [store["store"]]
    assert shard.read_bytes() == whole
    assert told("store", "verify", store["store"])["damages"] == []
    assert told("store", "repair") == []


def test_a_store_whose_rows_changed_is_not_mended_with_others(
    made: Path, told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    (store,) = told("label", "shop.yaml")
    rows = (made / "buys.csv").read_text()
    shard = next(Path(store["store"], "shards").glob("*.arrow"))
    whole = shard.read_bytes()
    try:
        (made / "buys.csv").write_text(rows + "u99,p1\nu99,p2\nu99,p3\n")
        shard.unlink()
        assert main(["store", "repair", store["store"]]) == 2
        assert "other knowledge" in capsys.readouterr().err
    finally:
        (made / "buys.csv").write_text(rows)
    told("store", "repair", store["store"])
    assert shard.read_bytes() == whole


def test_a_forgotten_person_stays_forgotten_and_their_artifacts_are_named(made: Path, told: Told) -> None:
    (store,) = told("label", "shop.yaml", "--set", "teacher.l2=40.0")
    for name, learnt in (("learnt", Path(store["store"]).name), ("other", "another")):
        artifact = made / "runs/forgetting/artifact" / name
        artifact.mkdir(parents=True)
        (artifact / "fingerprints.json").write_text(json.dumps({"store": learnt}))
    found = told("store", "forget", "--user", "u7")
    assert store["store"] in [one["store"] for one in found["stores"]]
    named = [path for path in found["artifacts"] if "runs/forgetting" in path]
    assert named == [str(made / "runs/forgetting/artifact/learnt")]
    twice = told("store", "forget", "--user", "u7")
    assert twice == {**found, "stores": []}
    (again,) = told("label", "shop.yaml", "--set", "teacher.l2=40.0")
    # Other rows, so other knowledge: nobody is asked about u7 again.
    assert again["rows"] == 44
    assert again["store"] != store["store"]


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_does(made: Path) -> None:
    wish = ["--out", "runs/long", "--set", "training.epochs=1500", "--set", "seeds=[0]", "--quiet"]
    wish += [
        "--set",
        "training.checkpoint_seconds=0",
        "--set",
        "training.check_every=500",
        "--set",
        "students.0.choose={}",
    ]
    command = [
        sys.executable,
        "-c",
        # Whoever runs the tests in the background has told their children to ignore Ctrl-C.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from limbeck.cli import main; raise SystemExit(main())",
        "run",
        "shop.yaml",
        *wish,
    ]
    going = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list((made / "runs/long/steps").glob("students-unfinished/*/0*")) and time.monotonic() < until:
        time.sleep(0.05)
    going.send_signal(signal.SIGINT)
    _, err = going.communicate(timeout=60)
    assert (going.returncode, err) == (130, "limbeck: interrupted; the same command goes on from here\n")
    assert not list((made / "runs/long/steps/students").glob("[!.]*"))
    again = subprocess.run([word for word in command if word != "--quiet"], capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert "going on from epoch" in again.stderr


def test_stores_are_listed_and_cleaned(made: Path, told: Told) -> None:
    (store,) = told("label", "shop.yaml")
    left = Path(store["store"], "shards", "half.tmp.1.aaaa")
    left.write_bytes(b"12345")
    listed = {one["folder"]: one for one in told("store", "list")}
    assert listed[store["store"]]["teacher"] == "ease"
    assert listed[store["store"]]["complete"]
    assert told("store", "clean") == {"files": 1, "bytes": 5}
    assert not left.exists()
