from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from limbeck.check import check, opened
from limbeck.errors import Mistake, RecipeError
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


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{loss: hard}", "{loss: hard, sample_weight: confidence}", "'hard' learns from no teacher"),
        (
            "{loss: kl, temperature: 2.0}",
            "{loss: relational, student: head, teacher: linear, sample_weight: correctness}",
            "'relational' compares rows with one another",
        ),
    ],
)
def test_only_rows_of_losses_that_learn_from_a_teacher_are_weighed_by_it(
    folder: Path, old: str, new: str, words: str
) -> None:
    found = only(folder, old, new)
    assert words in found.message
    assert found.line == line(RECIPE.replace(old, new), "sample_weight")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{loss: hard}", "{loss: hard, from: peers}", "'hard' learns from nobody but the rows' labels"),
        ("temperature: 2.0", "temperature: 2.0, from: average", "set training.ema, such as 0.999"),
        ("    width: 4", "    peers: 2", "no loss learns from peers"),
    ],
)
def test_whoever_a_loss_learns_from_must_be_there(folder: Path, old: str, new: str, words: str) -> None:
    assert words in only(folder, old, new).message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("temperature: 2.0", "temperature: {schedule: linear, start: 4, end: -4}", "must be above 0"),
        ("{loss: hard}", "{loss: hard, label_smoothing: {schedule: linear, start: 0, end: 1.5}}", "below 1"),
        ("    width: 4", "    choose: {objective.1.weight: [1.0, -1.0]}", "-1.0 is no weight"),
        ("    width: 4", "    choose: {objective.1.weight: [foo]}", "'foo' is no weight"),
        ("training: {epochs: 1}", "training: {epochs: 1, attack: {steps: 2}}", "rows that no loss reads"),
        ("{loss: kl, temperature: 2.0}", "{loss: ard}", "set training.attack"),
    ],
)
def test_what_would_fail_after_hours_is_found_at_once(folder: Path, old: str, new: str, words: str) -> None:
    assert RECIPE.count(old) == 1
    assert words in " ".join(one.message for one in mistakes(folder, RECIPE.replace(old, new)))


def test_generations_of_which_none_learns_from_the_one_before_are_refused(folder: Path) -> None:
    text = RECIPE.replace("temperature: 2.0", "temperature: 2.0, from: peers")
    assert not mistakes(folder, text)
    (found,) = mistakes(folder, text.replace("    width: 4", "    width: 4\n    generations: 2"))
    assert "no generation would learn from the one before" in found.message


def test_averages_whose_decay_is_chosen_are_there(folder: Path) -> None:
    text = RECIPE.replace("temperature: 2.0", "temperature: 2.0, from: average")
    assert not mistakes(folder, text.replace("    width: 4", "    choose: {training.ema: [0.5, 0.9]}"))


def test_a_moving_temperature_finds_no_tails_in_knowledge_that_is_cut(folder: Path) -> None:
    text = RECIPE.replace("temperature: 2.0", "temperature: {schedule: linear, start: 4, end: 2}")
    assert not mistakes(folder, text)
    (found,) = mistakes(folder, text + "label: {top: 1}\n")
    assert "tails of given temperatures only" in found.message


@pytest.mark.parametrize("joined", [False, True])
def test_a_teacher_that_cannot_be_built_is_found_before_it_is_trained(folder: Path, joined: bool) -> None:
    own = "{model: pixel_linear}"
    said = f"{{from: ensemble, members: [{{model: tfidf_linear}}, {own}]}}" if joined else own
    text = RECIPE.replace("teacher:\n  model: tfidf_linear\n", f"teacher: {said}\n")
    (found,) = mistakes(folder, text)
    assert "no column has the role 'picture'" in found.message


def test_every_generation_is_rehearsed(folder: Path) -> None:
    """The second learns from the first, whose parts are not the teacher's."""
    text = RECIPE.replace("model: tfidf_linear", "model: text_convolution")
    text = text.replace("{loss: kl, temperature: 2.0}", "{loss: fit_net, student: head.0, teacher: dropout}")
    assert not mistakes(folder, text)
    told = mistakes(folder, text.replace("    width: 4", "    width: 4\n    generations: 2"))
    assert "no part 'dropout' of" in " ".join(one.message for one in told)


def test_a_schedule_knows_its_keys() -> None:
    with pytest.raises(RecipeError, match="untill"):
        parse(RECIPE.replace("{loss: hard}", "{loss: hard, weight: {schedule: linear, start: 0, end: 1, untill: 1}}"))


def test_a_loss_learns_from_one_of_three() -> None:
    with pytest.raises(RecipeError, match="'teacher', 'average' or 'peers' was wanted, found 'friends'"):
        parse(RECIPE.replace("temperature: 2.0", "temperature: 2.0, from: friends"))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_student_that_is_fitted_learns_from_the_teacher_alone(folder: Path, ema: float | None) -> None:
    text = RECIPE.replace("model: bag_of_embeddings\n    width: 4", "model: tfidf_linear")
    text = text.replace("temperature: 2.0", "temperature: 2.0, from: average")
    (found,) = mistakes(folder, text.replace("epochs: 1", f"ema: {ema}") if ema else text)
    assert "fitted in one go, so it has no 'average' to learn from" in found.message


@pytest.mark.parametrize("by", ["confidence", "{by: correctness, floor: 0.2}"])
def test_rows_weighed_by_the_teacher_are_tried(folder: Path, by: str) -> None:
    assert not mistakes(folder, RECIPE.replace("temperature: 2.0", f"temperature: 2.0, sample_weight: {by}"))


def test_a_fitted_student_cannot_weigh_the_rows_of_one_loss(folder: Path) -> None:
    text = RECIPE.replace("temperature: 2.0", "temperature: 2.0, sample_weight: confidence")
    (found,) = mistakes(folder, text.replace("model: bag_of_embeddings\n    width: 4", "model: tfidf_linear"))
    assert "a fitted student has one target" in found.message


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
        ("    width: 4", "    choose: {objective.7.weight: [1.0]}", "losses are counted 0 to"),
        ("    width: 4", "    choose: {objective.1.temprature: [1.0]}", "temprature"),
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


def test_mistakes_of_form_hide_no_others_and_each_is_told_once(folder: Path) -> None:
    text = """\
task: classify_text
data:
  path: rows.csv
  roles: {text: wordz, label: mood}
options: {possitive: up}
protocols:
  - name: random
    split: {kind: random, shares: [6, 2, 2]}
  - nam: other
    split: {kind: group, by: shop}
teachr:
  from: table
  path: scores.parquet
students:
  - model: bag_of_embeddings
    widht: 4
  - modle: text_convolution
    widths: 7
objective:
  - {loss: hard, weight: -1}
  - {loss: kll}
training: {epochs: many, optimiser: SGD}
seeds: 3
"""
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError) as wrong:
        opened(folder / "recipe.yaml")
    told = [(mistake.line, mistake.where) for mistake in wrong.value.mistakes]
    assert told == [
        (4, "data.roles.text"), (5, "options.possitive"), (9, "protocols[1].nam"), (10, "protocols[1].split"),
        (11, "teachr"), (13, "teacher.path"), (16, "students[0].widht"), (17, "students[1].modle"),
        (18, "students[1].widths"), (20, "objective[0].weight"), (21, "objective[1].loss"), (22, "training.epochs"),
        (22, "training.optimiser"), (23, "seeds"),
    ]  # fmt: skip
    assert "did you mean 'words'?" in wrong.value.mistakes[0].message
    assert wrong.value.mistakes[4].message == "unknown key 'teachr'; did you mean 'teacher'?"


def test_nothing_is_said_of_blanks_that_stand_for_what_cannot_be_read(folder: Path) -> None:
    for key in ("task", "data", "protocols", "teacher", "students", "objective"):
        document = yaml.safe_load(RECIPE)
        document[key] = 3
        (folder / "recipe.yaml").write_text(yaml.safe_dump(document))
        with pytest.raises(RecipeError) as wrong:
            opened(folder / "recipe.yaml")
        assert [mistake.where for mistake in wrong.value.mistakes] == [key]


def test_a_recipe_of_right_form_is_opened_with_its_changes(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(RECIPE)
    assert opened(folder / "recipe.yaml", ["seeds=[5]"]).seeds == (5,)
    with pytest.raises(RecipeError, match=r"1 problem\n.*students\[0\].widht: .*did you mean 'width'"):
        opened(folder / "recipe.yaml", ["students.0.widht=5"])


def test_every_role_that_cannot_be_had_is_told_in_its_place(folder: Path) -> None:
    text = RECIPE.replace(
        "{text: words, label: mood}", "\n    text: stars\n    label: moods\n    privileged: [stars, x]"
    )
    found = mistakes(folder, text)
    assert [(one.line, one.where) for one in found] == [
        (5, "data.roles.text"), (6, "data.roles.label"), (7, "data.roles.privileged"),
    ]  # fmt: skip
    assert "strings were wanted" in found[0].message
    assert "did you mean 'mood'?" in found[1].message
    assert "there are: words, mood, stars" in found[2].message


def test_a_mistyped_name_is_not_also_missing(folder: Path) -> None:
    assert "did you mean 'label'" in only(folder, "label: mood}", "lable: mood}").message
    brought = only(folder, "  model: tfidf_linear", "  from: table\n  pth: scores.parquet")
    assert "did you mean 'path'?" in brought.message


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


def test_rows_that_would_not_fit_into_memory_are_told_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.room.memory_left", lambda: 1000)
    (mistake,) = mistakes(folder, RECIPE)
    assert mistake.where == "students[0]"
    assert mistake.message.startswith("36 rows of ")
    assert "GB are left; take fewer rows" in mistake.message
