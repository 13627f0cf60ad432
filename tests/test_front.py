"""What is worth having of all that a search met."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limbeck.bounds import Budget
from limbeck.front import Candidate, best, fits, marked, own


def file(value: float, size: int, p95_ms: float = 0.1, trial: int = 0) -> Candidate:
    return Candidate(trial=trial, value=value, bytes=size, parameters=size // 4, p95_ms=p95_ms)


def test_a_limit_that_is_met_is_kept_and_one_that_is_not_set_is_none() -> None:
    one = file(0.3, 1000, p95_ms=2.0)
    assert fits(one, Budget())
    assert fits(one, Budget(bytes=1000, parameters=250, p95_ms=2.0))
    for passed in (Budget(bytes=999), Budget(parameters=249), Budget(p95_ms=1.9)):
        assert not fits(one, passed)


def test_of_one_trainings_files_the_budget_decides_then_the_headline_then_bytes() -> None:
    whole, small = file(0.3001, 1000), file(0.2999, 250)
    assert own([whole, small], Budget(), 1.0) == small, "they round alike"
    better = file(0.31, 1000)
    assert own([better, small], Budget(), 1.0) == better
    assert own([better, small], Budget(bytes=500), 1.0) == small
    assert own([better, small], Budget(bytes=100), 1.0) == small, "the nearest, where none keeps to it"
    assert own([file(0.31, 1000), file(0.2, 2000)], Budget(), -1.0).value == 0.2, "an error is better when lower"


def test_the_best_keeps_to_the_budget_and_of_equals_comes_first() -> None:
    trainings = [[file(0.3, 900, trial=0)], [file(0.4, 1100, trial=1)], [file(0.3, 800, trial=2)], []]
    assert best(trainings, Budget(bytes=1000), 1.0) == trainings[0][0]
    assert best(trainings, Budget(), 1.0) == trainings[1][0]
    assert best(trainings, Budget(bytes=10), 1.0) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=12), st.sampled_from([1.0, -1.0]))
def test_the_front_is_what_no_other_file_beats(points: list[tuple[int, int]], sign: float) -> None:
    told = marked([file(float(value), size) for value, size in points], ["bytes"], Budget(bytes=3), sign)
    for one, (value, size) in zip(told, points, strict=True):
        beaten = any(sign * v >= sign * value and s <= size and (v, s) != (value, size) for v, s in points)
        assert one.front != beaten
        assert one.fits == (size <= 3)
    assert any(one.front for one in told)
