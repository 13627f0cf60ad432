"""What README, docs and packaging promise is so."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from limbeck import models, parts, recipe, testing
from limbeck.recipe import Teacher
from limbeck.task import Problem
from limbeck.types import Axis, Rows

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh.md")


def ran(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, timeout=300, check=False
    )


def blocks(file: str, language: str) -> list[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(file: str) -> list[list[str]]:
    """Every `limbeck ...` of its shell blocks and of its prose."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [line for block in blocks(file, "sh") for line in block.splitlines()]
    lines += re.findall(r"`(limbeck [a-z][^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("limbeck ")]


# Packaging


def test_a_floor_imports_only_from_floors_below() -> None:
    done = ran(str(Path(sys.executable).with_name("lint-imports")))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("code", ["import limbeck", "from limbeck.cli import main; main(['--help'])"])
def test_help_comes_without_heavy_packages(code: str) -> None:
    done = ran(sys.executable, "-c", f"{code}\nimport sys\nprint('loaded', *sys.modules)")
    loaded = set(done.stdout.rpartition("loaded")[2].split())
    assert "limbeck" in loaded, done.stderr
    assert not loaded & {"torch", "transformers", "pyarrow", "onnxruntime", "scipy", "sklearn", "httpx"}


def test_the_whole_licence_is_there() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_constraints_pin_every_dependency_and_no_build_of_a_machine() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {re.split(r"[^\w.-]", r)[0].lower().replace("_", "-") for r in wanted} - {"limbeck"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert not names - set(pins)
    assert not [name for name in pins if name.startswith(("nvidia", "triton", "torchvision", "torchaudio"))]
    assert not [version for version in pins.values() if "+" in version]


def test_nothing_in_the_repository_names_a_machine_or_weighs_much() -> None:
    listed = ran("git", "ls-files", "--cached", "--others", "--exclude-standard")
    if listed.returncode:
        pytest.skip("not a git work tree")
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert len(files) > 100
    assert not [file for file in files if file.stat().st_size > 1_000_000]
    machine = re.compile(r"/(?:root|home|work|opt)/\w")
    assert not [file for file in files if machine.search(file.read_text(encoding="utf-8", errors="replace"))]


def test_ci_runs_from_a_bare_clone_what_contributors_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert {"make test", "make check"} <= set(script.read_text(encoding="utf-8").splitlines())


# Recipes and docs


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_names_parts_and_settings_that_exist(file: Path) -> None:
    read, _ = recipe.read(file)
    assert file.stem.startswith(read.task)
    assert read.task in parts.names("tasks")
    for student in read.students:
        parts.make("models", student.model, student.settings)
    for loss in read.objective:
        assert loss.loss == "hard" or parts.make("losses", loss.loss, loss.settings)


def test_docs_are_what_the_code_says_and_their_links_lead_somewhere() -> None:
    done = ran(sys.executable, "docs/generate.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", READMES)
def test_the_readmes_python_runs(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(file, "python")
    said: dict[str, object] = {}
    exec(compile(block, file, "exec"), said)
    assert said["taught"].steps == 5 * 8  # type: ignore[attr-defined]
    assert said["student"].training is False  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", READMES)
def test_the_readmes_commands_exist_with_their_options(file: str) -> None:
    from typer.main import get_command

    from limbeck.cli.app import app

    said = commands(file)
    assert len(said) > 10
    for words in said:
        command, rest = get_command(app), words
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        if rest:  # in prose a command may stand by its name alone
            command.make_context("limbeck", list(rest))


@pytest.mark.parametrize("file", READMES)
def test_the_readmes_recipes_and_teachers_are_valid(file: str) -> None:
    (block,) = blocks(file, "yaml")
    read, _ = recipe.parse(block)
    for student in read.students:
        parts.make("models", student.model, student.settings)
    teachers = re.findall(r"`(\{from: [^`]*\})`", (ROOT / file).read_text(encoding="utf-8"))
    assert {yaml.safe_load(text)["from"] for text in teachers} == set(parts.names("teachers"))
    for text in teachers:
        teacher = Teacher.model_validate(yaml.safe_load(text))
        parts.make("teachers", str(teacher.source), teacher.settings)


def test_both_readmes_tell_the_same() -> None:
    def code(file: str, language: str) -> list[str]:
        lines = [line for block in blocks(file, language) for line in block.splitlines()]
        return [re.sub(r"\s*#.*", "", line) for line in lines]

    for language in ("sh", "python", "yaml"):
        assert code(READMES[0], language) == code(READMES[1], language)
    headings = [re.findall(r"^#+", (ROOT / file).read_text(encoding="utf-8"), re.M) for file in READMES]
    assert headings[0] == headings[1]


# The examples of CONTRIBUTING keep their contracts


@pytest.fixture
def examples(tmp_path: Path) -> list[Path]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^`src/limbeck/\w+/(\w+\.py)`:\n\n```python\n(.*?)^```", text, re.M | re.S)
    for name, code in found:
        (tmp_path / name).write_text(code, encoding="utf-8")
    return [tmp_path / name for name, _ in found]


def test_the_example_loss_keeps_the_contract(examples: list[Path]) -> None:
    said: dict[str, object] = {}
    exec(compile(examples[0].read_text(encoding="utf-8"), examples[0].name, "exec"), said)
    testing.check_loss(said["LogitError"]())  # type: ignore[operator]


def test_the_example_model_keeps_the_contract(examples: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(examples[1].parent)])
    parts.names.cache_clear()
    try:
        table = pa.table({"text": ["good stuff", "bad stuff", "", "so good"] * 5, "label": ["1", "0", "0", "1"] * 5})
        rows = Rows(table, np.arange(20), "made up", {"text": "text", "label": "label"})
        problem = Problem(rows, rows, rows, Axis("label", ("0", "1")), ("text",))
        testing.check_model(parts.make("models", examples[1].stem, {"width": 8}), problem)
    finally:
        parts.names.cache_clear()
        sys.modules.pop(f"limbeck.models.{examples[1].stem}", None)
