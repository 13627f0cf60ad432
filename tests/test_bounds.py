"""Ranges, budgets and what a recipe may say of a search."""

from __future__ import annotations

import pytest

from limbeck.bounds import Budget, Range, Tune
from limbeck.errors import RecipeError, UserError
from limbeck.recipe import parse

RECIPE = """
task: recommend
data: {pack: ml-100k}
protocols: [{name: random, split: {kind: user_random}}]
teacher: {model: ease}
students:
  - model: matrix_factorisation
    tune: {width: {low: 4, high: 64, log: true}}
objective: [{loss: hard}, {loss: listwise_kl}]
tune: {trials: 7, budget: {bytes: 1000, p95_ms: 0.5}}
"""


def test_a_recipe_says_what_is_searched_and_what_it_may_cost() -> None:
    recipe, _ = parse(RECIPE)
    assert recipe.students[0].tune == {"width": Range(4, 64, log=True)}
    assert recipe.tune == Tune(trials=7, budget=Budget(bytes=1000, p95_ms=0.5))
    assert parse(RECIPE.replace("    tune: {width: {low: 4, high: 64, log: true}}\n", ""))[0].students[0].tune is None


def test_the_front_weighs_sizes_of_the_budget_and_latency_only_when_asked() -> None:
    assert Tune(budget=Budget(p95_ms=1.0)).costs == ("bytes",)
    assert Tune(budget=Budget(bytes=9, parameters=9, p95_ms=1.0)).costs == ("bytes", "parameters")
    assert Tune(axes=("p95_ms",)).costs == ("p95_ms",)


def test_a_range_rises_and_a_ratio_starts_above_nothing() -> None:
    with pytest.raises(UserError, match="low must be below high"):
        Range(2, 2)
    with pytest.raises(UserError, match="with log it must be above 0"):
        Range(0, 2, log=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("high: 64", "high: 3", "low must be below high"),
        ("high: 64", "top: 64", "unknown key 'top'"),
        ("bytes: 1000", "bytes: 0", "it must be above 0"),
        ("bytes: 1000", "byte: 1000", "unknown key 'byte'"),
        ("trials: 7", "trials: 0", "it must be above 0"),
        ("trials: 7", "tries: 7", "unknown key 'tries'"),
    ],
)
def test_a_search_that_cannot_be_is_told_with_its_line(old: str, new: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as wrong:
        parse(RECIPE.replace(old, new))
    assert wrong.value.mistakes[0].line is not None
