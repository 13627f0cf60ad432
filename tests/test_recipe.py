import re
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import RecipeError, UserError
from limbeck.knowledge import Knowledge
from limbeck.recipe import Recipe, Training, parse, read
from limbeck.split import Split
from limbeck.threat import Threat
from limbeck.weight import SampleWeight

WHOLE = """\
task: recommend
data:
  pack: ml-100k
protocols:
  - name: random
    split: {kind: user_random, shares: [8, 1, 1]}
teacher:
  model: ease
  l2: 300.0
students:
  - model: matrix_factorisation
    width: 16
    training:
      epochs: 3
objective:
  - {loss: hard, weight: 0.3}
  - {loss: listwise_kl, temperature: 0.1}
training:
  epochs: 30
seeds: [0, 1]
"""


def changed(old: str, new: str) -> str:
    assert WHOLE.count(old) == 1
    return WHOLE.replace(old, new)


def mistakes(text: str, changes: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(RecipeError) as wrong:
        parse(text, changes=changes)
    assert wrong.value.exit_code == 2
    return [str(mistake) for mistake in wrong.value.mistakes]


def test_a_recipe_reads_into_values_with_its_lines() -> None:
    recipe, lines = parse(WHOLE)
    assert recipe.protocols[0].split == Split("user_random", (8, 1, 1))
    assert recipe.teacher.settings == {"l2": 300.0}
    assert recipe.students[0].settings == {"width": 16}
    assert recipe.students[0].title == "matrix_factorisation-16"
    assert recipe.students[0].training == {"epochs": 3}
    assert [loss.weight for loss in recipe.objective] == [0.3, 1.0]
    assert recipe.objective[1].settings == {"temperature": 0.1}
    assert recipe.label == Knowledge()
    assert (recipe.training.epochs, recipe.seeds) == (30, (0, 1))
    assert lines.of(("students", 0, "width")) == 12
    assert lines.of(("objective", 1, "temperature")) == 17
    assert lines.of(("students", 0, "nowhere", "deep")) == 11  # the nearest above
    assert lines.of(("nowhere",)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed("epochs: 30", "epoch: 30"), "line 19: training.epoch: unknown key 'epoch'; did you mean 'epochs'\\?"),
        (changed("epochs: 30", "epochs: 0"), "line 19: training.epochs: it must be above 0, found 0"),
        (changed("epochs: 30", "epochs: many"), "line 19: training.epochs: a whole number was wanted, found 'many'"),
        (changed("epochs: 30", "precision: fp8"), r"line 19: training.precision: 'no', 'bf16' or 'fp16' was wanted, found 'fp8'"),  # noqa: E501
        (changed("epochs: 30", "learning_rate: .inf"), "line 19: training.learning_rate: a number that is neither infinite nor NaN was wanted, found inf"),  # noqa: E501
        (changed("task: recommend\n", ""), "line 1: task: the key 'task' is missing"),
        (changed("task: recommend", "tusk: recommend"), "line 1: tusk: unknown key 'tusk'; did you mean 'task'\\?"),
        (changed("weight: 0.3", "weight: -1"), r"line 16: objective\[0\].weight: a weight is 0 or more, a schedule, .*, found -1"),  # noqa: E501
        (changed("weight: 0.3", "weight: learnt"), r"line 16: objective\[0\].weight: a weight is .*'learned' or 'balanced', found 'learnt'"),  # noqa: E501
        (changed("weight: 0.3", "weight: {schedule: liner, start: 0, end: 1}"), r"line 16: objective\[0\].weight: a schedule: schedule: 'linear', 'cosine' or 'step' was wanted"),  # noqa: E501
        (changed("weight: 0.3", "weight: {schedule: step, start: 0, end: 1, until: 2}"), r"line 16: objective\[0\].weight: after is 0.0 and until 2.0"),  # noqa: E501
        (changed("shares: [8, 1, 1]", "share: [8, 1, 1]"), r"line 6: protocols\[0\].split.share: unknown key 'share'; did you mean 'shares'\?"),  # noqa: E501
        (changed("kind: user_random", "kind: userrandom"), r"line 6: protocols\[0\].split.kind: 'user_random', .* or 'given' was wanted, found 'userrandom'"),  # noqa: E501
        (changed("[8, 1, 1]", "[0, 1, 1]"), r"line 6: protocols\[0\].split: split.shares is \(0.0, 1.0, 1.0\); three numbers"),  # noqa: E501
        (changed("kind: user_random", "kind: group"), r"line 6: protocols\[0\].split: .*split.by must name the column"),
        (changed("seeds: [0, 1]", "seeds: []"), "line 20: seeds: the list is empty; at least 1 entry was wanted"),
        (changed("  model: ease", "  model: ease\n  from: onnx"), "line 7: teacher: a teacher has exactly one of model .* and from"),  # noqa: E501
        (changed("  pack: ml-100k", "  pack: a\n  path: b"), "line 2: data: data has exactly one of pack and path"),
        (changed("seeds: [0, 1]", "label: {sampled: 3}"), "line 20: label: .*needs 'top'"),
        (changed("seeds: [0, 1]", "label: {tops: 3}"), "line 20: label.tops: unknown key 'tops'; did you mean 'top'\\?"),  # noqa: E501
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_place(text: str, words: str) -> None:
    found = mistakes(text)
    assert [said for said in found if re.match(words, said)], found
    assert len(found) == 1


def test_all_mistakes_are_told_at_once() -> None:
    text = changed("epochs: 30", "epochs: -1\n  clipp: 3").replace("task: recommend\n", "").replace("0.3", "x")
    found = mistakes(text)
    assert len(found) == 4
    assert [word for word in ("task", "epochs", "clipp", "weight") if any(word in said for said in found)] == [
        "task", "epochs", "clipp", "weight",
    ]  # fmt: skip
    with pytest.raises(RecipeError, match=r"^recipe: 4 problems\n  line"):
        parse(text)


def test_a_key_that_stands_twice_is_a_mistake() -> None:
    found = mistakes(changed("  model: ease", "  model: ease\n  model: popularity"))
    assert found == ["line 9: teacher.model: the key stands twice"]
    found = mistakes(WHOLE + "training: {epochs: 0}\n")
    assert found[0] == "line 21: training: the key stands twice"
    assert "training.epochs: it must be above 0" in found[-1]


def test_two_students_need_two_names() -> None:
    text = changed("objective:", "  - {model: matrix_factorisation, width: 16}\nobjective:")
    (found,) = mistakes(text)
    assert "two students are called matrix_factorisation-16; give them a name" in found
    recipe, _ = parse(text.replace("width: 16}", "width: 16, name: other}"))
    assert [student.title for student in recipe.students] == ["matrix_factorisation-16", "other"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2", "line 1: not YAML: expected ',' or ']'"),
        ("a: 1\n\tb: 2", "line 2: not YAML"),
        ("- a\n- b", "a recipe is a mapping of keys; this is a list"),
        ("# nothing yet\n", "a recipe is a mapping of keys; this is empty"),
        ("task recommend\n", "a recipe is a mapping of keys; this is only 'task recommend'"),
        ("", "a recipe is a mapping of keys"),
        ("a: 1\n---\nb: 2", "not YAML: but found another document"),
        ("a: !!python/object/apply:os.system [ls]", "not YAML: could not determine a constructor"),
        ("a: \x00", "not YAML"),
    ],
)
def test_what_is_no_recipe_is_said(text: str, words: str) -> None:
    assert any(words in said for said in mistakes(text))


def test_aliases_that_hold_themselves_are_a_mistake() -> None:
    found = mistakes(WHOLE + "options: &own {again: *own}\n")
    assert found[0] == "line 21: options.again: the alias stands for what it stands in"


def test_aliases_say_a_thing_again() -> None:
    recipe, lines = parse(
        changed("training:\n      epochs: 3", "training: &short\n      epochs: 3") + "options: *short\n"
    )
    assert recipe.options == recipe.students[0].training == {"epochs": 3}
    assert lines.of(("options", "epochs")) == 21


def test_changes_are_applied_before_validation() -> None:
    changes = (
        "training.epochs=7",
        "students.0.width=8",
        "seeds=[4]",
        "training.ema=0.9",
        "students.0.name=small",
        "options.positive=4",
    )
    recipe, _ = parse(WHOLE, changes=changes)
    assert (recipe.training.epochs, recipe.training.ema, recipe.seeds) == (7, 0.9, (4,))
    assert recipe.students[0].settings == {"width": 8}
    assert recipe.students[0].title == "small"
    assert recipe.options == {"positive": 4}
    plain, _ = parse(WHOLE)
    assert recipe.fingerprint != plain.fingerprint == parse(WHOLE)[0].fingerprint
    assert "training.epochs: it must be above 0, found 0" in mistakes(WHOLE, ("training.epochs=0",))[0]
    assert "did you mean 'epochs'?" in mistakes(WHOLE, ("training.epoch=1",))[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("epochs", r"--set takes key=value, found 'epochs'"),
        ("=3", r"--set takes key=value, found '=3'"),
        ("seeds=[1", r"--set seeds: '\[1' is not YAML"),
        ("students.3.width=8", r"--set students.3.width: the recipe has nothing at '3'"),
        ("students.3=8", r"--set students.3: the recipe has nothing at '3'"),
        ("students.width=8", r"--set students.width: the recipe has nothing at 'width'"),
        ("task.deep=8", r"--set task.deep: the recipe has nothing at 'deep'"),
        ("task.deep.er=8", r"--set task.deep.er: the recipe has nothing at 'deep'"),
    ],
)
def test_a_change_that_fits_nowhere_is_refused(change: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(WHOLE, changes=(change,))


def test_files_are_read_as_utf8(tmp_path: Path) -> None:
    place = tmp_path / "recipe.yaml"
    place.write_text(WHOLE + "description: 茶\n", encoding="utf-8")
    assert read(place)[0].description == "茶"
    assert read(place, ("seeds=[9]",))[0].seeds == (9,)
    with pytest.raises(UserError, match="is a folder; name a recipe file in it"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"no recipe at .*nowhere\.yaml"):
        read(tmp_path / "nowhere.yaml")
    place.write_bytes(b"task: \xff")
    with pytest.raises(UserError, match="is not UTF-8 text: byte 6 is 0xff"):
        read(place)
    place.write_text("task: [")
    with pytest.raises(RecipeError, match=r"recipe\.yaml: 1 problem\n  line 1: not YAML"):
        read(place)


def test_the_fingerprint_is_of_every_key_and_not_of_their_order() -> None:
    lines = WHOLE.splitlines(keepends=True)
    plain = parse(WHOLE)[0].fingerprint
    assert parse("".join([*lines[1:], lines[0]]))[0].fingerprint == plain
    assert parse(WHOLE + "description: x\n")[0].fingerprint != plain
    assert parse("# why\n" + WHOLE)[0].fingerprint == plain


def test_what_decides_the_weights_is_neither_where_curves_go_nor_how_often_it_is_saved() -> None:
    plain = Training()
    same = Training(track=("tensorboard",), checkpoint_seconds=0.0)
    assert same.digest() == plain.digest()
    assert "track" not in plain.digest()
    for field in set(Training.model_fields) - {"track", "checkpoint_seconds"}:
        assert field in Training(attack=Threat()).digest()


def test_a_teacher_of_several_has_members_and_a_joint_title() -> None:
    text = changed(
        "  model: ease\n  l2: 300.0",
        "  from: ensemble\n  members:\n    - {model: ease, l2: 1.0}\n    - {from: table, path: x}",
    )
    recipe, _ = parse(text)
    assert [member.title for member in recipe.teacher.members] == ["ease", "table"]
    assert recipe.teacher.title == "ease + table"
    assert recipe.teacher.joins
    assert parse(WHOLE)[0].teacher.members == ()


def test_a_recipe_does_not_change_once_read() -> None:
    recipe: Any = parse(WHOLE)[0]
    for change in (lambda: setattr(recipe, "task", "x"), lambda: setattr(recipe.training, "epochs", 2)):
        with pytest.raises(ValueError, match="frozen"):
            change()
    assert isinstance(recipe, Recipe)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("confident", r"sample_weight: 'confidence' or 'correctness' was wanted, found 'confident'"),
        ("{by: confidence, flor: 1}", r"sample_weight.flor: unknown key 'flor'"),
        ("{by: correctness, floor: 2}", r"sample_weight: floor is 2.0; it must be between 0 and 1"),
    ],
)
def test_what_rows_count_for_is_a_word_or_more_of_it(said: str, words: str) -> None:
    def told(by: str) -> Recipe:
        return parse(WHOLE.replace("weight: 0.3", f"weight: 0.3, sample_weight: {by}"))[0]

    for one in ("correctness", "{by: correctness}"):
        assert told(one).objective[0].sample_weight == SampleWeight("correctness")
    with pytest.raises(RecipeError, match=words):
        told(said)
