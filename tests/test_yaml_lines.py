from __future__ import annotations

import pytest

from limbeck.errors import RecipeError
from limbeck.yaml_lines import change, dotted, load


def test_dotted_paths_name_places() -> None:
    assert dotted(("students", 0, "training", "epochs")) == "students[0].training.epochs"
    assert dotted(()) == ""


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "y", "N", "No", "YES"])
def test_words_that_old_yaml_takes_for_truth_values_stay_words(word: str) -> None:
    said, lines = load(f"a: {word}\n{word}: 1\nlist: [{word}]\n", "recipe")
    assert said == {"a": word, word: 1, "list": [word]}
    assert lines.of((word,)) == 2


@pytest.mark.parametrize(("word", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_true_and_false_are_truth_values(word: str, value: bool) -> None:
    assert load(f"a: {word}\n", "recipe")[0] == {"a": value}


def test_every_key_is_the_text_that_was_typed() -> None:
    said, lines = load("columns:\n  1: one\n  true: two\n  007: three\n  2024-01-31: four\n", "recipe")
    assert said == {"columns": {"1": "one", "true": "two", "007": "three", "2024-01-31": "four"}}
    assert lines.of(("columns", "007")) == 4


def test_merged_mappings_are_still_merged() -> None:
    assert load("a: &a {x: 1, no: 2}\nb: {<<: *a, x: 3}\n", "recipe")[0]["b"] == {"x": 3, "no": 2}


def test_a_key_twice_is_a_mistake_however_it_is_spelt() -> None:
    _, lines = load("a: {no: 1, 'no': 2}\n", "recipe")
    assert [str(mistake) for mistake in lines.doubled] == ["line 1: a.no: the key stands twice"]


def test_nothing_but_plain_values_is_ever_made() -> None:
    with pytest.raises(RecipeError, match="not YAML"):
        load("a: !!python/object/apply:os.system [ls]\n", "recipe")


def test_a_change_finds_keys_that_look_like_numbers() -> None:
    said = {"columns": {"1": "one"}, "list": [{"a": 1}]}
    change(said, "columns.1=no")
    change(said, "list.0.a=true")
    assert said == {"columns": {"1": "no"}, "list": [{"a": True}]}
