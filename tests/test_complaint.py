"""No word of the validator's reaches whoever wrote a recipe, whatever stands where."""

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from limbeck.complaint import SAID, all_said, complaint
from limbeck.recipe import Training, reading
from limbeck.yaml_lines import Place

WHOLE: dict[str, Any] = {
    "task": "recommend",
    "data": {"pack": "ml-100k", "unlabelled": [{"path": "more.csv"}]},
    "options": {"positive": 4},
    "protocols": [{"name": "a", "split": {"kind": "time_cut", "shares": [8, 1, 1], "cut": [1, 2]}, "splits": [0]}],
    "teacher": {"model": "ease", "choose": {"l2": [50]}, "training": {}},
    "students": [
        {
            "model": "matrix_factorisation",
            "choose": {"width": [1]},
            "tune": {"dropout": {"low": 0.1, "high": 0.5}},
            "objective": [{"loss": "kl", "sample_weight": {"by": "confidence", "floor": 0.1}}],
        }
    ],
    "objective": [{"loss": "hard", "weight": {"schedule": "linear", "start": 0, "end": 1}}],
    "label": {"top": 5},
    "training": Training().model_dump(mode="json"),
    "seeds": [0],
    "export": {"precisions": ["fp32"]},
    "tune": {"budget": {"bytes": 1000}},
}
WRONG = (None, "x", 3.5, -1, [], {}, [1], True, math.nan, math.inf, {"a": 1}, 10**40, [[1], [2]], ["a", "b", "c", "d"])
VALIDATORS = re.compile(r"[Ii]nput|should be|should have|[Tt]uple|[Dd]ictionary|valid |validation|instance|\bitems?\b")


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inner:
        yield from places(held, (*place, key))


def changed(place: Place, wrong: Any) -> str:
    whole = copy.deepcopy(WHOLE)
    holder: Any = whole
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = wrong
    return yaml.safe_dump(whole)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: str(value)[:20])
def test_whatever_stands_where_is_told_in_plain_words(wrong: Any) -> None:
    told = 0
    for place in places(WHOLE):
        for mistake in reading(changed(place, wrong)).mistakes:
            said = mistake.message.partition(", found")[0]
            told += 1
            assert not VALIDATORS.search(said.replace("validation_share", "")), (place, said)
    assert told


def test_of_all_that_a_value_might_be_one_mistake_is_told() -> None:
    (mistake,) = reading(changed(("protocols", 0, "split", "cut", 1), None)).mistakes
    assert mistake.where == "protocols[0].split.cut[1]"
    assert mistake.message.startswith("a number or a date and time such as 2024-01-31T12:00 or a date such as 2024-01-")
    assert mistake.message.endswith(" or text was wanted, found None")
    (mistake,) = reading(changed(("students", 0, "tune", "dropout", "low"), "x")).mistakes
    assert mistake.where == "students[0].tune.dropout.low"


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (tuple[float, float, float], [1, 2], "entry 3 is missing"),
        (tuple[float, float], [1, 2, 3], "the list has 3 entries; at most 2 were wanted"),
        (int, 1.5, "a whole number was wanted, found 1.5"),
        (int | None, "a", "a whole number was wanted, found 'a'"),
        (str | list[str], 7, "text or a list was wanted, found 7"),
        (bool, "perhaps", "true or false was wanted, found 'perhaps'"),
        (int, "a" * 99, f"a whole number was wanted, found '{'a' * 56}..."),
    ],
)
def test_one_value_of_another_sort(kind: Any, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        TypeAdapter(kind).validate_python(value)
    assert complaint(*wrong.value.errors()) == said


def test_every_sentence_has_all_it_needs() -> None:
    facts = {"gt": 1.5, "ge": 1, "lt": 2, "le": 2, "expected": "'a'"}
    for kind in SAID:
        said = all_said([{"type": kind, "ctx": facts, "loc": ("a",), "msg": "Input should be otherwise"}])
        assert "{" not in said
        assert "Input" not in said


def test_a_sentence_that_nobody_foresaw_is_still_said() -> None:
    assert all_said([{"type": "uuid_type", "loc": ("a",), "msg": "UUID input should be text"}]) == (
        "UUID input should be text"
    )
