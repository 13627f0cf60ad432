from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limbeck.check import check
from limbeck.errors import Mistake
from limbeck.recipe import parse

RECIPE = """\
task: classify_text
data:
  path: rows.csv
  roles: {text: words, label: mood}
protocols:
  - name: random
    split: {kind: random, shares: [6, 2, 2]}
teacher:
  model: tfidf_linear
students:
  - model: bag_of_embeddings
    width: 4
objective:
  - {loss: hard}
  - {loss: kl, temperature: 2.0}
training: {epochs: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    rows = [f"{'good fine' if i % 2 else 'bad poor'} thing {i},{'up' if i % 2 else 'down'},{i % 5}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("words,mood,stars\n" + "\n".join(rows) + "\n")
    return tmp_path


def mistakes(folder: Path, text: str) -> list[Mistake]:
    recipe, lines = parse(text)
    return check(recipe, lines, folder)


def only(folder: Path, old: str, new: str) -> Mistake:
    """The one mistake of the recipe changed in one place."""
    assert RECIPE.count(old) == 1
    found = mistakes(folder, RECIPE.replace(old, new))
    assert len(found) == 1, found
    return found[0]


def line(text: str, part: str) -> int:
    return next(i for i, one in enumerate(text.splitlines(), 1) if part in one)


def test_a_right_recipe_has_no_mistake(folder: Path) -> None:
    assert mistakes(folder, RECIPE) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("task: classify_text", "task: clasify_text", "did you mean classify_text"),
        ("model: tfidf_linear", "model: tfidf_liner", "did you mean tfidf_linear"),
        ("loss: kl,", "loss: kll,", "did you mean kl"),
        ("path: rows.csv", "path: rows.tsv", "no file 'rows.tsv'"),
        ("path: rows.csv", "path: rows.xlsx", "ending of 'rows.xlsx'"),
        ("label: mood}", "label: mood, wieght: stars}", "did you mean 'weight'"),
        ("label: mood}", "label: moods}", "'moods'"),
        ("    width: 4", "    widht: 4", "did you mean 'width'"),
        ("    width: 4", "    width: wide", "'wide'"),
        ("temperature: 2.0", "temperature: -2.0", "-2.0"),
        ("    width: 4", "    choose: {widht: [4]}", "did you mean 'width'"),
        ("    width: 4", "    choose: {training.learning_rte: [0.1]}", "learning_rte"),
        ("    width: 4", "    choose: {width: []}", "no values"),
        ("training: {epochs: 1}", "training: {epochs: 1, optimizer: AdamV}", "AdamV"),
        ("    width: 4", "    training: {optimizer: AdamV}", "AdamV"),
        ("    split: {kind: random, shares: [6, 2, 2]}", "    split: {kind: group, by: shop}", "'shop'"),
        ("    split: {kind: random, shares: [6, 2, 2]}", "    split: {kind: leave_last_out}", "'user'"),
        ("  model: tfidf_linear", "  model: ease", "asks for logits"),
        ("  - {loss: kl, temperature: 2.0}", "  - {loss: kl, weight: 0}", "weight 0"),
        ("  - {loss: kl, temperature: 2.0}\n", "", "needs the teacher"),
        ("  model: tfidf_linear", "  from: table\n  path: scores.parquet", "'scores.parquet'"),
        ("  model: tfidf_linear", "  from: artifact\n  path: runs/none", "no artifact in 'runs/none'"),
        ("training: {epochs: 1}", "seeds: [1, 1]", "stands twice"),
        ("training: {epochs: 1}", "options: {possitive: up}", "did you mean 'positive'"),
        ("training: {epochs: 1}", "options: {deduplicate: no}", "true or false was wanted"),
        ("label: mood}", "label: mood, item: stars}", "'classify_text' has no use for the role 'item'"),
    ],
)
def test_one_mistake_is_told_once_and_in_its_place(folder: Path, old: str, new: str, said: str) -> None:
    found = only(folder, old, new)
    assert said in found.message
    changed = RECIPE.replace(old, new)
    first, last = line(changed, new.splitlines()[0]) if new else 13, 13
    assert found.line is not None
    assert first <= found.line <= max(last, first + new.count("\n"))


def test_mistakes_of_all_sorts_are_told_together_in_order(folder: Path) -> None:
    text = RECIPE.replace("model: tfidf_linear", "model: none_such").replace(
        "    width: 4", "    widht: 4\n    colour: 3"
    )
    text = text.replace("loss: kl,", "loss: kk,").replace("{epochs: 1}", "{epochs: 1, optimizer: Bad}")
    found = mistakes(folder, text)
    assert [mistake.where for mistake in found] == [
        "teacher.model", "students[0].widht", "students[0].colour", "objective[1].loss", "training.optimizer",
    ]  # fmt: skip
    lines = [mistake.line or 0 for mistake in found]
    assert lines == sorted(lines)


def test_a_setting_that_must_be_given_is_missed(folder: Path) -> None:
    found = only(folder, "  model: tfidf_linear", "  from: table")
    assert "lacks the setting 'path'" in found.message


def test_a_fitted_student_needs_a_soft_target(folder: Path) -> None:
    text = RECIPE.replace("model: bag_of_embeddings\n    width: 4", "model: tfidf_linear")
    assert (
        mistakes(folder, text.replace("model: tfidf_linear\nstudents", "model: character_transformer\nstudents")) == []
    )
    recommend = """\
task: recommend
data:
  path: buys.csv
  roles: {user: user, item: item}
protocols:
  - {name: random, split: {kind: user_random}}
teacher: {model: ease}
students:
  - {model: ease}
objective:
  - {loss: next_item}
  - {loss: listwise_kl}
"""
    rows = [f"u{i % 10},i{i * 7 % 12}" for i in range(120)]
    (folder / "buys.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    found = mistakes(folder, recommend)
    assert any("'next_item' offers no soft target" in mistake.message for mistake in found)


def test_shapes_that_do_not_fit_are_found_by_a_dry_batch(folder: Path) -> None:
    found = only(folder, "{loss: kl, temperature: 2.0}", "{loss: listwise_kl}")
    assert found.where == "students[0]"
    assert "'scores'" in found.message


def test_top_k_knowledge_is_rehearsed_as_a_store_would_keep_it(folder: Path) -> None:
    rows = [f"word{i} thing {i % 7},c{i % 6}" for i in range(120)]
    (folder / "rows.csv").write_text("words,mood\n" + "\n".join(rows) + "\n")
    assert mistakes(folder, RECIPE + "label: {top: 2}\n") == []


def test_a_brought_teacher_is_opened(folder: Path) -> None:
    columns = {"id": np.arange(60), "up": np.zeros(60), "down": np.ones(60)}
    pq.write_table(pa.table({name: pa.array(value) for name, value in columns.items()}), folder / "scores.parquet")
    settings = "  from: table\n  path: scores.parquet\n  kind: logits"
    text = RECIPE.replace("  model: tfidf_linear", settings)
    assert mistakes(folder, text) == []
    found = mistakes(folder, text.replace("  kind: logits", "  kind: logits\n  id: number"))
    assert len(found) == 1
    assert "'number'" in found[0].message


def test_members_of_an_ensemble_are_looked_at(folder: Path) -> None:
    members = "  from: ensemble\n  members:\n    - {model: tfidf_linear}\n    - {model: tfidf_liner}"
    found = only(folder, "  model: tfidf_linear", members)
    assert found.where == "teacher.members[1].model"
    assert found.line == line(RECIPE.replace("  model: tfidf_linear", members), "tfidf_liner")


def test_nothing_is_trained_and_nothing_is_left_but_converted_rows(folder: Path) -> None:
    mistakes(folder, RECIPE)
    assert {path.name for path in (folder / "cache").iterdir()} == {"rows"}
