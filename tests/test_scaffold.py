from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limbeck.check import check
from limbeck.cli import main
from limbeck.errors import UserError
from limbeck.recipe import parse
from limbeck.scaffold import Scaffold, scaffold


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def table(folder: Path, columns: dict[str, list[object]], name: str = "rows.parquet") -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def buys(count: int = 400) -> dict[str, list[object]]:
    draw = random.Random(0)
    return {
        "customer_id": [draw.randrange(20) for _ in range(count)],
        "productCode": [f"p{draw.randrange(30)}" for _ in range(count)],
        "bought_at": list(range(1_700_000_000, 1_700_000_000 + count)),
        "price": [draw.random() for _ in range(count)],
    }


def reviews(good: str = "really lovely thing", bad: str = "really awful thing") -> dict[str, list[object]]:
    return {
        "id": list(range(200)),
        "comment": [f"{good if i % 2 else bad} {i}" for i in range(200)],
        "sentiment": [i % 2 for i in range(200)],
    }


def right(made: Scaffold, folder: Path) -> None:
    recipe, lines = parse(made.text)
    assert check(recipe, lines, folder) == []


def test_buys_become_recommendation_in_time(tmp_path: Path) -> None:
    made = scaffold(table(tmp_path, buys()), tmp_path)
    assert made.task == "recommend"
    assert made.roles == {"user": "customer_id", "item": "productCode", "time": "bought_at"}
    assert "kind: leave_last_out" in made.text
    assert "# not used: price" in made.text
    right(made, tmp_path)


def test_without_a_time_users_rows_are_split_at_random(tmp_path: Path) -> None:
    columns = buys()
    del columns["bought_at"]
    made = scaffold(table(tmp_path, columns), tmp_path)
    assert "kind: user_random" in made.text
    right(made, tmp_path)


def test_reviews_become_classification(tmp_path: Path) -> None:
    made = scaffold(table(tmp_path, reviews()), tmp_path)
    assert made.task == "classify_text"
    assert made.roles == {"text": "comment", "label": "sentiment", "id": "id"}
    assert "model: transformer" in made.text
    right(made, tmp_path)


def test_scripts_without_spaces_get_a_teacher_that_reads_characters(tmp_path: Path) -> None:
    made = scaffold(table(tmp_path, reviews("这件东西真的非常好用", "这件东西真的非常难用")), tmp_path)
    assert "model: character_transformer" in made.text
    right(made, tmp_path)


def test_a_column_of_parts_is_kept_to(tmp_path: Path) -> None:
    columns = {**reviews(), "split": [("train", "train", "test")[i % 3] for i in range(200)]}
    made = scaffold(table(tmp_path, columns), tmp_path)
    assert made.roles["split"] == "split"
    assert "kind: given" in made.text
    right(made, tmp_path)


@pytest.mark.parametrize(("delimiter", "said"), [(",", None), (";", "delimiter: ;"), ("|", "delimiter: '|'")])
def test_a_csv_is_read_with_what_stands_between_its_cells(tmp_path: Path, delimiter: str, said: str | None) -> None:
    columns = buys()
    lines = [delimiter.join(columns), *(delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    made = scaffold(tmp_path / "rows.csv", tmp_path)
    assert said is None or said in made.text
    assert ("delimiter" in made.text) == (said is not None)
    right(made, tmp_path)


def test_recboles_usual_names_need_no_guess(tmp_path: Path) -> None:
    rows = [f"{i % 9}\t{i * 5 % 14}\t{i % 5}\t{i}" for i in range(90)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (tmp_path / "shop.inter").write_text("\n".join([header, *rows]) + "\n")
    made = scaffold(tmp_path / "shop.inter", tmp_path)
    assert made.roles == {"user": "user_id", "item": "item_id", "time": "timestamp", "label": "rating"}
    assert "positive: null" in made.text
    right(made, tmp_path)


def test_names_that_yaml_would_take_for_something_else_survive(tmp_path: Path) -> None:
    columns = reviews()
    columns["label: yes #1"] = columns.pop("sentiment")
    made = scaffold(table(tmp_path, columns), tmp_path)
    assert made.roles["label"] == "label: yes #1"
    right(made, tmp_path)


def test_columns_that_answer_no_question_are_said_so(tmp_path: Path) -> None:
    file = table(tmp_path, {"a": [1.5, 2.5, 3.5], "b": [1.0, 2.0, 3.0]})
    with pytest.raises(UserError, match=r"the columns a, b suggest no task"):
        scaffold(file, tmp_path)
    with pytest.raises(UserError, match="looks like the role 'user' or 'item'"):
        scaffold(file, tmp_path, "recommend")
    with pytest.raises(UserError, match="no task 'forecast'"):
        scaffold(file, tmp_path, "forecast")


def test_a_file_elsewhere_is_named_whole(tmp_path: Path) -> None:
    inner = tmp_path / "recipes"
    inner.mkdir()
    file = table(tmp_path, buys())
    assert f"path: {file.resolve()}" in scaffold(file, inner).text


def test_init_writes_once_and_what_it_writes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path, buys())
    assert main(["init", str(file)]) == 0
    assert "user = customer_id" in capsys.readouterr().out
    before = (tmp_path / "recipe.yaml").read_text()
    assert main(["init", str(file)]) == 2
    assert (tmp_path / "recipe.yaml").read_text() == before
    quick = ["--set", "training.epochs=2", "--set", "seeds=[0]", "--set", "teacher.allow_weak=true"]
    assert main(["distill", str(tmp_path / "recipe.yaml"), *quick, "--quiet"]) == 0
