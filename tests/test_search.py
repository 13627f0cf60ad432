"""One study: what it asks for, what it remembers, and when it gives a training up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck.bounds import Budget, Range, Tune
from limbeck.errors import UserError
from limbeck.front import Candidate
from limbeck.search import FEWEST, Search

SPACE = {"width": Range(2, 64, log=True), "rate": Range(0.001, 0.1, log=True), "kind": [None, [1, 2], "a"]}
GIVEN = {"width": 8, "rate": 0.5, "kind": [1, 2]}


def opened(folder: Path, name: str = "study", **more: Any) -> Search:
    return Search(f"sqlite:///{folder / 'tune.db'}", name, SPACE, Tune(**more), higher_is_better=True)


def made(search: Search) -> dict[str, Any]:
    """One trial, which is better and larger the wider it is."""
    trial, settings = search.ask(GIVEN)
    width = settings["width"]
    search.tell(trial, settings, [Candidate(value=width / 100, bytes=4 * width, parameters=width)], {1: width / 100})
    return settings


def test_the_first_trial_is_what_was_given_where_the_space_has_it(tmp_path: Path) -> None:
    first = made(opened(tmp_path))
    assert (first["width"], first["kind"]) == (8, [1, 2])
    assert 0.001 <= first["rate"] <= 0.1


def test_a_search_that_is_taken_up_again_asks_for_what_it_would_have_asked(tmp_path: Path) -> None:
    calm = opened(tmp_path, "calm")
    wanted = [made(calm) for _ in range(14)]
    found = []
    for _ in range(7):
        search = opened(tmp_path, "killed")
        found += [made(search), made(search)]
    assert found == wanted
    assert len({str(one) for one in wanted}) > 10
    assert [dict(past.settings) for past in opened(tmp_path, "killed").past] == wanted


def test_a_trial_that_was_under_way_is_taken_up_with_its_settings(tmp_path: Path) -> None:
    search = opened(tmp_path)
    made(search)
    trial, settings = search.ask(GIVEN)
    again, the_same = opened(tmp_path).ask(GIVEN)
    assert (again.number, the_same) == (trial.number, settings)


def test_whole_numbers_are_tried_where_ends_and_the_given_are_whole(tmp_path: Path) -> None:
    search = Search(
        f"sqlite:///{tmp_path / 'tune.db'}",
        "whole",
        {"layers": Range(1, 3), "share": Range(0, 1)},
        Tune(),
        higher_is_better=True,
    )
    _, settings = search.ask({"layers": 2, "share": 0.5})
    assert isinstance(settings["layers"], int)
    assert isinstance(settings["share"], float)


def test_trials_that_led_to_nothing_count_and_are_told_apart(tmp_path: Path) -> None:
    search = opened(tmp_path)
    made(search)
    search.give_up(search.ask(GIVEN)[0], failed=True)
    search.give_up(search.ask(GIVEN)[0], failed=False)
    made(search)
    assert (search.done, search.failed, search.pruned, len(search.past)) == (4, 1, 1, 2)


def test_a_training_is_held_against_those_no_larger_at_the_same_epoch(tmp_path: Path) -> None:
    search = opened(tmp_path, budget=Budget(bytes=1000))
    for i in range(FEWEST):
        trial, settings = search.ask(GIVEN)
        curve = {1: 0.1 * i, 2: 0.5}
        search.tell(trial, settings, [Candidate(value=0.5, bytes=400, parameters=100)], curve)
    assert search.behind(100, {1: 0.19}), "0.2 is the middle one at epoch 1"
    assert not search.behind(100, {1: 0.2})
    assert not search.behind(100, {1: 0.6, 2: 0.1}), "its best so far counts"
    assert search.behind(100, {1: 0.3, 2: 0.1})
    assert search.behind(200, {1: 0.0})
    assert not search.behind(99, {1: 0.0}), "larger ones are no measure"
    assert not search.behind(100, {3: 0.0}), "none of them came so far"
    assert not opened(tmp_path, prune=False).behind(100, {1: 0.0})


def test_a_storage_that_cannot_be_opened_is_the_users_mistake(tmp_path: Path) -> None:
    for storage in (f"sqlite:///{tmp_path}/no/such/folder/tune.db", "nonsense", "nobody://here"):
        with pytest.raises(UserError, match="cannot be kept in"):
            Search(storage, "study", SPACE, Tune(), higher_is_better=True)
