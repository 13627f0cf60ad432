from __future__ import annotations

import string
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import RecipeError
from limbeck.recipe import Reading, parse, reading

WHOLE: dict[str, Any] = {
    "task": "recommend",
    "data": {"pack": "ml-100k", "unlabelled": []},
    "protocols": [
        {"name": "a", "split": {"kind": "random", "shares": [8, 1, 1]}},
        {"name": "b", "split": {"kind": "random"}},
    ],
    "teacher": {"model": "ease", "batch": 3},
    "students": [{"model": "a", "training": {"epochs": 3}}, {"model": "b", "objective": [{"loss": "kl"}]}],
    "objective": [{"loss": "hard", "weight": 0.3}, {"loss": "kl", "temperature": 2}],
    "training": {"epochs": 3, "track": ["mlflow"]},
    "seeds": [0, 1],
}


def read(said: object) -> Reading:
    return reading(yaml.safe_dump(said, sort_keys=False))


def told(found: Reading) -> list[str]:
    return [mistake.where for mistake in found.mistakes]


def test_a_right_mapping_is_read_as_it_stands() -> None:
    found = read(WHOLE)
    assert (found.mistakes, found.untold) == ([], set())
    assert found.recipe is not None
    assert found.recipe.fingerprint == parse(yaml.safe_dump(WHOLE))[0].fingerprint


def test_a_key_near_to_one_that_is_missing_is_read_as_that_one_with_its_lines() -> None:
    said = {"teachr" if key == "teacher" else key: value for key, value in WHOLE.items()}
    said["teachr"] = {"model": "ease", "batch": 0}
    found = read(said)
    assert told(found) == ["teachr", "teacher.batch"]
    assert found.mistakes[0].message == "unknown key 'teachr'; did you mean 'teacher'?"
    assert found.mistakes[0].line is not None
    assert found.mistakes[1].line == found.mistakes[0].line + 2
    assert found.recipe is not None
    assert found.recipe.teacher.model == "ease"


def test_a_key_that_is_near_to_one_given_already_is_left_out() -> None:
    found = read({**WHOLE, "seds": [4]})
    assert [mistake.message for mistake in found.mistakes] == ["unknown key 'seds'; did you mean 'seeds'?"]
    assert found.recipe is not None
    assert found.recipe.seeds == (0, 1)


@pytest.mark.parametrize("key", ["task", "data", "protocols", "teacher", "students", "objective"])
def test_a_blank_stands_for_what_is_missing_or_of_another_kind(key: str) -> None:
    missing = read({name: value for name, value in WHOLE.items() if name != key})
    assert [mistake.message for mistake in missing.mistakes] == [f"the key '{key}' is missing"]
    for found in (missing, read({**WHOLE, key: 3.5})):
        assert told(found) == [key]
        assert found.untold == {(key,)}
        assert found.recipe is not None


def test_an_entry_that_cannot_be_read_leaves_the_others_where_they_are() -> None:
    found = read({**WHOLE, "objective": [3, {"loss": "kl", "weight": -1}, {"temperature": 2}, {"loss": "dkd"}]})
    assert told(found) == ["objective[0]", "objective[1].weight", "objective[2].loss"]
    assert found.recipe is not None
    assert [loss.loss for loss in found.recipe.objective] == ["", "kl", "", "dkd"]
    assert found.untold == {("objective", 0), ("objective", 1, "weight"), ("objective", 2)}


def test_what_is_mended_by_leaving_it_out_is_not_told_as_missing() -> None:
    assert told(read({**WHOLE, "data": {"pack": 3}})) == ["data.pack"]
    assert told(read({**WHOLE, "students": [{"model": 3, "width": 4}]})) == ["students[0].model"]


def test_a_mapping_that_holds_itself_is_told_and_read_no_further() -> None:
    found = reading(yaml.safe_dump(WHOLE) + "options: &own {again: *own}\n")
    assert found.recipe is None
    assert told(found) == ["options.again"]


def places(held: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
    return [place for key, inner in pairs for place in [(*above, key), *places(inner, (*above, key))]]


ANYTHING = st.none() | st.integers(-2, 2) | st.text(string.ascii_lowercase, max_size=4) | st.just([]) | st.just({})


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(places(WHOLE)), ANYTHING), min_size=1, max_size=4))
def test_whatever_is_wrong_something_is_read_or_something_is_told(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    said = yaml.safe_load(yaml.safe_dump(WHOLE))
    for place, value in changes:
        held = said
        try:
            for step in place[:-1]:
                held = held[step]
            held[place[-1]] = deepcopy(value)  # one change may be made inside another's value
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took its place away
    text = yaml.safe_dump(said, sort_keys=False)
    found = reading(text)
    assert len({str(mistake) for mistake in found.mistakes}) == len(found.mistakes)
    if found.mistakes:
        with pytest.raises(RecipeError):
            parse(text)
    assert found.recipe is not None
