"""Whatever is wrong with what a user brings: exit code 2, one sentence naming the culprit, nothing left behind."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from limbeck.cli import main

GOOD, BAD = ("lovely", "great", "superb"), ("broken", "awful", "dull")
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def reviews(count: int = 60) -> list[dict[str, Any]]:
    words = itertools.cycle(itertools.product(GOOD, GOOD))
    rows = []
    for i in range(count):
        good = i % 2 == 0
        first, second = next(words) if good else [BAD[GOOD.index(word)] for word in next(words)]
        rows.append({"id": i, "text": f"{first} {second} thing {i}", "label": "up" if good else "down"})
    return rows


def csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [",".join(rows[0])] + [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def recipe(folder: Path, **changes: Any) -> Path:
    """A recipe that would run in a second or two, changed."""
    said: dict[str, Any] = {
        "task": "classify_text",
        "data": {"path": "rows.csv", "roles": {"id": "id", "text": "text", "label": "label"}},
        "protocols": [{"name": "random", "split": {"kind": "random", "shares": [6, 2, 2], "stratify": True}}],
        "teacher": {"model": "tfidf_linear", "minimum": 1, "allow_weak": True},
        "students": [{"model": "bag_of_embeddings", "name": "bag", "width": 4, "hidden": 0}],
        "objective": [{"loss": "hard"}, {"loss": "kl", "temperature": 2.0}],
        "training": {"epochs": 1, "batch_size": 16},
        "seeds": [0],
        "export": {"precisions": ["fp32"]},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**said, **changes}), encoding="utf-8")
    return path


def refused(said: Said, folder: Path, *culprits: str, command: tuple[object, ...] | None = None) -> str:
    """Run, and see that it is refused as it should be."""
    code, out, err = said(*(command or ("run", folder / "recipe.yaml", "--out", folder / "out")))
    assert code == 2, err
    assert out == ""
    assert err.startswith("limbeck: ")
    assert "Traceback" not in err
    assert "problems" not in err, "one culprit is told once"
    for culprit in culprits:
        assert culprit in err
    assert not (folder / "out").exists()
    halves = [path for path in folder.rglob("*") if ".tmp." in path.name]
    assert not halves
    return err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe makes that the other tests break."""
    folder = tmp_path_factory.mktemp("whole")
    csv(folder / "rows.csv", reviews(30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(folder / "cache"))
        assert main(["run", str(recipe(folder)), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def test_the_recipe_that_the_others_break_runs(made: Path) -> None:
    assert (made / "report.html").is_file()
    assert (made / "artifact" / "bag" / "contract.json").is_file()


def test_fewer_rows_than_a_batch_simply_work(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews(20))
    path = recipe(tmp_path, training={"epochs": 1, "batch_size": 4096})
    code, out, err = said("distill", path, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert {one["role"] for one in json.loads(out)} == {"student", "scratch"}


def test_a_role_that_names_no_column(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    recipe(tmp_path, data={"path": "rows.csv", "roles": {"text": "review", "label": "label"}})
    assert "label" in refused(said, tmp_path, "'review'", "there are: id, text, label")


def test_a_role_that_is_missing(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    recipe(tmp_path, data={"path": "rows.csv", "roles": {"text": "text"}})
    refused(said, tmp_path, "'label'", "line 3")


def test_text_that_is_numbers(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    recipe(tmp_path, data={"path": "rows.csv", "roles": {"text": "id", "label": "label"}})
    refused(said, tmp_path, "'id'", "int64", "strings")


def test_a_time_that_is_words(tmp_path: Path, said: Said) -> None:
    rows = [{"user": f"u{i % 5}", "item": f"i{i % 7}", "when": "noon"} for i in range(40)]
    csv(tmp_path / "rows.csv", rows)
    recipe(
        tmp_path,
        task="recommend",
        data={"path": "rows.csv", "roles": {"user": "user", "item": "item", "time": "when"}},
        protocols=[{"name": "last", "split": {"kind": "leave_last_out"}}],
        teacher={"model": "ease"},
        students=[{"model": "matrix_factorisation", "width": 2}],
        objective=[{"loss": "hard"}, {"loss": "listwise_kl"}],
    )
    refused(said, tmp_path, "'when'", "'time'")


@pytest.mark.parametrize("text", ["", "id,text,label\n"])
def test_a_file_without_rows(tmp_path: Path, said: Said, text: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    recipe(tmp_path)
    refused(said, tmp_path, "rows.csv", "rows")


def test_labels_that_are_missing(tmp_path: Path, said: Said) -> None:
    rows = [{**row, "label": float(row["id"] % 2) if row["id"] != 7 else "nan"} for row in reviews()]
    csv(tmp_path / "rows.csv", rows)
    recipe(tmp_path)
    refused(said, tmp_path, "'label'", "id 7")


def test_ids_that_repeat(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", [{**row, "id": min(row["id"], 50)} for row in reviews()])
    recipe(tmp_path)
    refused(said, tmp_path, "'id'", "repeats 50")


def test_a_key_nobody_knows(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    recipe(tmp_path, seed=[0])
    refused(said, tmp_path, "unknown key 'seed'", "'seeds'", "line ")


def table(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")
    recipe(
        folder, teacher={"from": "table", "path": "scores.parquet", "kind": "logits", "allow_weak": True, **settings}
    )


def test_a_teacher_of_other_classes(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    table(tmp_path, [{"id": i, "a": 0.1, "b": 0.2} for i in range(60)], columns={"good": "a", "bad": "b"})
    refused(said, tmp_path, "scores.parquet", "'good'", "'bad'")


def test_knowledge_of_other_rows(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    table(tmp_path, [{"id": i, "up": 0.1, "down": 0.2} for i in range(100, 160)])
    refused(said, tmp_path, "scores.parquet", "lacks")


def test_a_file_cut_short(tmp_path: Path, said: Said) -> None:
    whole = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(reviews()), whole)
    whole.write_bytes(whole.read_bytes()[:-100])
    recipe(tmp_path, data={"path": "rows.parquet", "roles": {"text": "text", "label": "label"}})
    refused(said, tmp_path, "rows.parquet", "not whole")


def test_a_file_outside_the_recipes_folder(tmp_path: Path, said: Said) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    csv(tmp_path / "rows.csv", reviews())
    recipe(inner, data={"path": "../rows.csv", "roles": {"text": "text", "label": "label"}})
    refused(said, inner, "'../rows.csv'", "leaves the recipe's folder")


def test_text_of_another_encoding(tmp_path: Path, said: Said) -> None:
    text = csv(tmp_path / "rows.csv", reviews()).read_text().replace("thing 3", "th\u00efng 3")
    (tmp_path / "rows.csv").write_bytes(text.encode("latin-1"))
    recipe(tmp_path)
    refused(said, tmp_path, "rows.csv", "line 5", "not utf-8")


def test_one_class_alone(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", [{**row, "label": "up"} for row in reviews()])
    recipe(tmp_path)
    refused(said, tmp_path, "'up'", "two at least")


@pytest.mark.parametrize(
    ("name", "text", "culprit"),
    [
        ("none.yaml", None, "no recipe at"),
        ("folder", None, "is a folder"),
        ("prose.yaml", "task: [unclosed", "not YAML"),
        ("list.yaml", "- a\n- b\n", "a mapping of keys"),
        ("empty.yaml", "", "a mapping of keys"),
        ("latin.yaml", b"task: caf\xe9\n", "not UTF-8"),
    ],
)
def test_something_else_than_a_recipe(
    tmp_path: Path, said: Said, name: str, text: str | bytes | None, culprit: str
) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for command in ("run", "check"):
        refused(said, tmp_path, name, culprit, command=(command, path))


def test_rows_that_an_artifact_cannot_read(tmp_path: Path, said: Said, made: Path) -> None:
    csv(tmp_path / "other.csv", [{"words": "lovely"}])
    answers = tmp_path / "answers.jsonl"
    told = ("predict", made, tmp_path / "other.csv", "--out", answers)
    refused(said, tmp_path, "'text'", "words", command=told)
    assert not answers.exists()
    refused(said, tmp_path, "no artifact", command=("predict", tmp_path, tmp_path / "other.csv"))


def test_a_change_that_does_not_fit(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    path = recipe(tmp_path)
    refused(said, tmp_path, "--set", "key=value", command=("check", path, "--set", "epochs"))
    refused(said, tmp_path, "epochs", command=("check", path, "--set", "training.epochs=many"))


def test_an_out_folder_that_is_a_file(tmp_path: Path, said: Said) -> None:
    csv(tmp_path / "rows.csv", reviews())
    path, place = recipe(tmp_path), tmp_path / "taken"
    place.write_text("mine")
    for asked in (("--out", place), ("--out", place, "--plan"), ("--out", place / "deeper")):
        code, _, err = said("run", path, *asked)
        assert code == 2
        assert err.endswith(f"{place} is a file, and a folder was wanted; give --out another place\n")
    assert place.read_text() == "mine"


@pytest.mark.parametrize("name", ["pictures", "."])
def test_a_folder_of_pictures_without_the_line_at_its_end(tmp_path: Path, said: Said, name: str) -> None:
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    path = recipe(tmp_path, task="classify_image", data={"path": name})
    told = f"'{name}' is a folder; write '{name}/' where it holds a folder of pictures for each label"
    refused(said, tmp_path, told, command=("check", path))
