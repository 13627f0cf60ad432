"""The base install, without torch, answers with an artifact."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from limbeck import parts
from limbeck.artifact import Column
from limbeck.model import Model
from limbeck.parity import Proof
from limbeck.report import Report
from limbeck.task import Problem
from limbeck.types import Axis, Rows
from limbeck.verbs.export import About, export

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TEXTS = ["a good tea", "a bad tea", "good", "bad, bad coffee", "", "茶 good"]
LABELS = Axis("label", ("0", "1"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the built package and its base dependencies."""
    folder = tmp_path_factory.mktemp("base")
    source = folder / "source"  # built elsewhere, so that no `build` folder of ours is mistaken for the package
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    wanted = ["-c", str(ROOT / "constraints.txt"), str(source)]
    uv, home = Path(sys.executable).with_name("uv"), folder / "venv"
    if uv.exists():
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True)
        subprocess.run([uv, "pip", "install", "-q", "-p", home / "bin" / "python", *wanted], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", *wanted], check=True)
    return home / "bin"


@pytest.fixture(scope="module")
def model() -> Model:
    table = pa.table({"text": TEXTS * 20, "label": ["1", "0", "1", "0", "0", "1"] * 20})
    rows = Rows(table, np.arange(120), "made up", {"text": "text", "label": "label"})
    problem = Problem(rows, rows, rows, LABELS, ("text",))
    family = parts.make("models", "character_transformer", {"width": 16, "layers": 1, "heads": 2})
    encoder = family.encoder(problem)
    torch.manual_seed(0)
    return Model("character_transformer", {"width": 16, "layers": 1, "heads": 2}, encoder, family.module(encoder, 2), 2)


@pytest.fixture(scope="module")
def artifact(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = pa.table({"text": TEXTS * 20})
    rows = Rows(table, np.arange(120), "made up", {"text": "text"})
    proof = Proof(model.encoder.rows(rows), lambda _: 0.5, 0.5)
    about = About("classify_text", LABELS, (Column("text", "text", "text"),), Report(task="classify_text"), "", {}, {})
    return export(model, tmp_path_factory.mktemp("run") / "artifact" / "small", proof=proof, about=about).path


def said(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_it_has_no_torch(base: Path) -> None:
    code = "from importlib.util import find_spec; print(find_spec('torch'), find_spec('limbeck').origin)"
    answer = said(base / "python", "-c", code).stdout.split()
    assert answer[0] == "None"
    assert Path(answer[1]).is_relative_to(base.parent)


@pytest.mark.parametrize("words", [["--help"], ["list"], ["data", "list"], ["--version"]])
def test_its_commands_answer(base: Path, words: list[str]) -> None:
    done = said(base / "limbeck", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_it_answers_as_the_model_does(base: Path, model: Model, artifact: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    done = said(base / "limbeck", "predict", artifact, rows, "--out", out, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    table = pa.table({"text": TEXTS})
    logits = model(Rows(table, np.arange(len(TEXTS)), "made up").batch())["logits"]
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert [answer["row"] for answer in answers] == list(range(len(TEXTS)))
    for answer, row in zip(answers, wanted, strict=True):
        assert answer["label"] == LABELS.values[int(row.argmax())]
        found = {one["label"]: one["probability"] for one in answer["labels"]}
        assert [found["0"], found["1"]] == pytest.approx(row.tolist(), abs=1e-5)


def test_training_says_which_extra_it_needs(base: Path, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("text,label\n" + "good,1\nbad,0\n" * 30, encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        """task: classify_text
data: {path: my.csv, roles: {text: text, label: label}}
options: {deduplicate: false}
protocols: [{name: random, split: {kind: random}}]
teacher: {model: character_transformer}
students: [{model: character_transformer, width: 16}]
objective: [{loss: kl}]
""",
        encoding="utf-8",
    )
    done = said(base / "limbeck", "run", recipe, "--out", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert "pip install 'limbeck[train]'" in done.stderr
