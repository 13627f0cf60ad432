"""From a recipe's words to rows: who is left out, and what counts as the same row."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from limbeck import ledger, parts
from limbeck.bind import alone, bind, objective_of, options_of, problem_of, remembered, taught_rows, together
from limbeck.cache import cache_folder
from limbeck.chunk import persons
from limbeck.errors import UserError
from limbeck.forgetting import forget
from limbeck.recipe import Loss, Recipe, parse
from limbeck.table import map_table
from limbeck.task import Problem
from limbeck.types import Rows


def rows_of(texts: list[str], source: str = "shop") -> Rows:
    table = pa.table({"text": texts, "label": ["a"] * len(texts)})
    return Rows(table, np.arange(len(texts)), source, {"text": "text", "label": "label"})


@pytest.fixture
def purchases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    table = pa.table({"who": ["u1", "u2", "u1", "u3"], "what": ["a", "b", "c", "d"]})
    return Rows(table, np.arange(4), "shop", {"user": "who", "item": "what"})


def test_a_person_who_asked_to_be_forgotten_is_in_no_rows_of_any_later_run(purchases: Rows) -> None:
    assert remembered(purchases).id.tolist() == [0, 1, 2, 3]
    ledger.write_forgotten(cache_folder("stores"), persons(["u1"]))
    left = remembered(purchases)
    assert left.column("who") == ["u2", "u3"]
    assert left.id.tolist() == [1, 3]
    assert left.fingerprint != purchases.fingerprint


def test_a_forgotten_person_is_in_no_rows_from_elsewhere_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    for name in ("buys", "more"):
        (tmp_path / f"{name}.csv").write_text("who,what\nu1,a\nu2,b\nu2,c\nu3,a\n")
    recipe, _ = parse(
        "task: recommend\n"
        "data:\n  path: buys.csv\n  roles: {user: who, item: what}\n"
        "  unlabelled: [{path: more.csv, roles: {user: who, item: what}}]\n"
        "protocols: [{name: random, split: {kind: user_random}}]\n"
        "teacher: {model: ease}\nstudents: [{model: popularity}]\nobjective: [{loss: hard}]\n"
    )
    ledger.write_forgotten(cache_folder("stores"), persons(["u2"]))
    bound = bind(recipe, tmp_path)
    for rows in (bound.source.rows, *bound.others):
        assert rows.column("who") == ["u1", "u3"]
    assert len(bound.others) == 1


def test_rows_of_forgotten_people_only_are_refused(purchases: Rows) -> None:
    ledger.write_forgotten(cache_folder("stores"), np.sort(persons(["u1", "u2", "u3"])))
    with pytest.raises(UserError, match="asked to be forgotten"):
        remembered(purchases)


def test_equal_rows_under_other_roles_are_other_rows(purchases: Rows) -> None:
    other = Rows(purchases.table, purchases.id, purchases.source, {"user": "what", "item": "who"})
    assert other.fingerprint != purchases.fingerprint


def prepared(place: Path, told: str) -> Problem:
    recipe, _ = parse(
        f"{told}\nprotocols: [{{name: given, split: {{kind: given}}}}]\nteacher: {{model: majority}}\n"
        "students: [{model: majority}]\nobjective: [{loss: hard}]\n"
    )
    return problem_of(bind(recipe, place), recipe.protocols[0], 0)


SPLIT = ("train", "train", "train", "train", "validation", "validation", "test", "test")


def test_unlabelled_texts_that_are_test_texts_to_the_eye_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    texts = ["train", "b", "c", "d", "check", "f", "caf\u00e9 au lait", "two\u3000 spaces\u00a0here"]
    main = pa.table({"text": texts, "label": ["a", "b"] * 4, "split": SPLIT})
    pq.write_table(main, tmp_path / "main.parquet")
    asked = ["cafe\u0301 au  lait ", "two spaces\there", "check", "fresh one", "fresh\u3000one", "train"]
    pq.write_table(pa.table({"said": [*asked, "caf\u00e9\u2003au lait"]}), tmp_path / "web.parquet")
    problem = prepared(
        tmp_path,
        "task: classify_text\ndata: {path: main.parquet, roles: {text: text, label: label, split: split},"
        " unlabelled: [{path: web.parquet, roles: {text: said}}]}",
    )
    assert problem.unlabelled is not None
    assert problem.unlabelled.column("text") == ["fresh one", "train"]
    assert problem.facts["unlabelled_dropped"] == {"unreadable": 0, "in_validation_or_test": 4, "duplicates": 1}


def picture(value: int, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(file, form)
    return file.getvalue()


PICTURES = [picture(i) for i in range(8)]


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight people's pictures, and a folder of others."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    table = {"photo": PICTURES, "kind": ["a", "b"] * 4, "part": SPLIT, "who": [f"u{i}" for i in range(8)]}
    pq.write_table(pa.table(table), tmp_path / "main.parquet")
    (tmp_path / "extra" / "any").mkdir(parents=True)
    return tmp_path


ALBUM = "task: classify_image\ndata: {path: main.parquet, roles: {picture: photo, label: kind, split: part, user: who}"


def test_unlabelled_pictures_that_are_test_pictures_are_left_out_whatever_their_format(album: Path) -> None:
    for i in (0, 5, 6, 7, 8, 9):
        (album / "extra" / "any" / f"{i}.bmp").write_bytes(picture(i, "bmp"))
    (album / "extra" / "any" / "again.png").write_bytes(picture(8))
    problem = prepared(album, f"{ALBUM}, unlabelled: [{{path: extra/}}]}}")
    assert problem.unlabelled is not None
    assert len(problem.unlabelled) == problem.facts["unlabelled"] == 3
    same = parts.get("tasks", "classify_image").same
    told = same(problem.unlabelled, {"unreadable": "refuse"}).to_pylist()
    assert set(told) == set(same(rows_of_pictures([0, 8, 9]), {"unreadable": "refuse"}).to_pylist())
    assert problem.facts["unlabelled_dropped"] == {"unreadable": 0, "in_validation_or_test": 3, "duplicates": 1}


def rows_of_pictures(values: list[int]) -> Rows:
    table = pa.table({"photo": [picture(value) for value in values]})
    return Rows(table, np.arange(len(values)), f"pictures {values}", {"picture": "photo"})


def test_unlabelled_pictures_that_cannot_be_read_are_refused_or_skipped_as_the_recipe_says(album: Path) -> None:
    (album / "extra" / "any" / "good.png").write_bytes(picture(9))
    (album / "extra" / "any" / "bad.png").write_bytes(picture(9)[:-30])
    with pytest.raises(UserError, match=r"1 of 2 pictures cannot be read \('any/bad.png: it is not whole"):
        prepared(album, f"{ALBUM}, unlabelled: [{{path: extra/}}]}}")
    problem = prepared(album, f"{ALBUM}, unlabelled: [{{path: extra/}}]}}\noptions: {{unreadable: skip}}")
    assert problem.unlabelled is not None
    assert len(problem.unlabelled) == 1
    assert problem.facts["unlabelled_dropped"] == {"unreadable": 1, "in_validation_or_test": 0, "duplicates": 0}


def test_where_every_unlabelled_row_is_left_out_there_are_none(album: Path) -> None:
    (album / "extra" / "any" / "known.png").write_bytes(PICTURES[7])
    problem = prepared(album, f"{ALBUM}, unlabelled: [{{path: extra/}}]}}")
    assert problem.unlabelled is None
    assert problem.facts["unlabelled"] == 0


def test_after_a_person_is_forgotten_pictures_are_prepared_again_and_no_digest_of_theirs_is_kept(album: Path) -> None:
    assert len(prepared(album, f"{ALBUM}}}").train) == 4
    (kept,) = (album / "cache" / "pictures").glob("*.arrow")
    assert map_table(kept).num_rows == 8
    forget("u1", album / "runs")
    problem = prepared(album, f"{ALBUM}}}")
    assert problem.train.column("who") == ["u0", "u2", "u3"]
    assert [file.name for file in (album / "cache" / "pictures").iterdir()] == [kept.name]
    assert map_table(kept).column("id").to_pylist() == [0, 2, 3, 4, 5, 6, 7]


def test_sources_put_together_number_their_rows_anew() -> None:
    both = together([rows_of(["a", "b"]), rows_of(["c"], "web")])
    assert both.id.tolist() == [0, 1, 2]
    assert both.column("text") == ["a", "b", "c"]
    assert both.source not in ("shop", "web")


def test_rows_of_one_source_keep_their_keys() -> None:
    whole = rows_of(["a", "b", "c", "d"])
    both = together([whole.take(np.array([2, 0])), whole.take(np.array([3]))])
    assert both.id.tolist() == [2, 0, 3]
    assert both.source == "shop"
    assert both.column("text") == ["c", "a", "d"]
    assert together([whole, whole]).source != "shop"  # an id would stand for two rows


RECIPE = """\
task: {task}
data:
  path: rows.csv
  roles: {{{roles}}}
protocols:
  - {{name: random, split: {{kind: {split}, shares: [6, 2, 2]}}}}
teacher: {{model: {model}}}
students: [{{model: {model}}}]
objective: [{{loss: hard}}]
options: {{{options}}}
"""


def recipe(task: str, roles: str, model: str = "tfidf_linear", split: str = "random", options: str = "") -> Recipe:
    return parse(RECIPE.format(task=task, roles=roles, model=model, split=split, options=options))[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reviews of which every third has no label, and purchases of which some have no rating."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    lines = [f"text {i},{'' if i % 3 else 'ab'[i % 2]},{i},u{i % 9},i{i % 7},{i % 5 or ''}" for i in range(90)]
    (tmp_path / "rows.csv").write_text("text,label,worth,user,item,stars\n" + "\n".join(lines) + "\n")
    return tmp_path


def test_half_labelled_rows_teach_through_the_teacher_alone(folder: Path) -> None:
    bound = bind(told := recipe("classify_text", "text: text, label: label"), folder)
    problem = problem_of(bound, told.protocols[0], 0)
    assert [len(rows) for rows in (problem.train, problem.validation, problem.test)] == [18, 6, 6]
    assert problem.unlabelled is not None
    assert len(problem.unlabelled) == problem.facts["unlabelled"] == 60
    assert all(id % 3 == 0 for rows in (problem.train, problem.validation, problem.test) for id in rows.id.tolist())
    taught = taught_rows(problem)
    assert taught.source == problem.train.source  # so that knowledge kept by id finds them
    assert (bound.task.targets(taught, problem)["label"] < 0).sum() == 60


def test_a_task_that_needs_every_label_refuses_rows_without(folder: Path) -> None:
    roles = "user: user, item: item, label: stars"
    with pytest.raises(UserError, match=r"18 of 90 rows have no label: column 'stars' .* nobody can learn from here"):
        bind(recipe("recommend", roles, "ease", "user_random", "positive: 3"), folder)


@pytest.mark.parametrize("role", ["weight", "privileged", "text"])
def test_a_role_that_a_task_has_no_use_for_is_refused(folder: Path, role: str) -> None:
    told = recipe("recommend", f"user: user, item: item, {role}: worth", "ease", "user_random")
    with pytest.raises(UserError, match=f"task 'recommend' has no use for the role '{role}'; it reads: id, item, "):
        bind(told, folder)


def test_an_option_that_is_true_or_false_takes_no_word(folder: Path) -> None:
    told = recipe("classify_text", "text: text, label: label", options="deduplicate: no")
    with pytest.raises(UserError, match="option 'deduplicate' is 'no'; true or false was wanted"):
        options_of(bind(told, folder).task, told, told.protocols[0])


# The twin's losses


class Own:
    """A family with a hard loss of its own."""

    hard = "next_item"


def losses(*said: dict[str, Any]) -> tuple[Loss, ...]:
    return tuple(Loss.model_validate(one) for one in said)


def test_the_twin_keeps_the_losses_that_need_no_teacher_at_the_whole_weight() -> None:
    task = parts.get("tasks", "classify_text")
    said = losses(
        {"loss": "kl", "weight": 0.8},
        {"loss": "hard", "weight": 0.15},
        {"loss": "cross_entropy", "weight": 0.05, "label_smoothing": 0.1},
        {"loss": "next_item", "weight": 0},
    )
    kept = alone(said, task, object())
    assert [loss.loss for loss in kept] == ["hard", "cross_entropy"]
    assert [loss.weight for loss in kept] == pytest.approx([0.75, 0.25])
    assert kept[1].settings == {"label_smoothing": 0.1}


def test_where_every_loss_needs_a_teacher_the_twin_gets_the_hard_one() -> None:
    task = parts.get("tasks", "recommend")
    (hard,) = alone(losses({"loss": "listwise_kl", "weight": 0.9}), task, Own())
    assert (hard.loss, hard.weight) == ("hard", 0.9)


def test_a_twins_weights_are_exact_where_nothing_is_taken_away() -> None:
    task = parts.get("tasks", "classify_text")
    said = losses({"loss": "hard", "weight": 0.1}, {"loss": "cross_entropy", "weight": 0.2})
    assert alone(said, task, object()) == said


def test_where_weights_move_the_twin_has_the_whole_weight_of_the_end() -> None:
    task = parts.get("tasks", "classify_text")
    rising = {"schedule": "linear", "start": 0.0, "end": 2.0}
    (hard,) = alone(losses({"loss": "kl", "weight": rising}, {"loss": "hard", "weight": 1.0}), task, object())
    assert hard.weight == 3.0
    falling = {"schedule": "linear", "start": 1.0, "end": 0.5}
    (hard,) = alone(losses({"loss": "kl", "weight": 0.5}, {"loss": "hard", "weight": falling}), task, object())
    assert (hard.weight.start, hard.weight.end) == (2.0, 1.0)


@pytest.mark.parametrize("first", [{"schedule": "linear", "start": 1.0, "end": 0.0}, "balanced"])
def test_a_twin_of_which_nothing_fixed_is_left_has_the_whole_weight(first: Any) -> None:
    """A weight that ends at 0 cannot be scaled, and one is balanced against another or not at all."""
    said = losses({"loss": "hard", "weight": first}, {"loss": "kl", "weight": 0.8})
    task = parts.get("tasks", "classify_text")
    (hard,) = alone(said, task, object())
    assert hard.weight == (0.8 if isinstance(first, dict) else 1.6)
    assert objective_of((hard,), task, object()).weights == [hard.weight]


def test_a_balanced_weight_counts_as_the_first_that_is_given() -> None:
    task = parts.get("tasks", "classify_text")
    (hard,) = alone(losses({"loss": "hard", "weight": 0.25}, {"loss": "kl", "weight": "balanced"}), task, object())
    assert hard.weight == 0.5
