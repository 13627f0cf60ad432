import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.weight import Schedule, counts, nominal

SHARES = st.floats(0, 1)


@given(st.sampled_from(["linear", "cosine", "step"]), st.floats(-5, 5), st.floats(-5, 5), SHARES)
def test_a_schedule_starts_ends_and_stays_between(schedule, start, end, progress):
    moving = Schedule(schedule, start, end, after=0.2, until=0.7)
    assert moving.at(0.1) == moving.at(0.2) == start
    assert moving.at(0.7) == moving.at(1.0) == pytest.approx(end)
    assert min(start, end) - 1e-9 <= moving.at(progress) <= max(start, end) + 1e-9


def test_half_way_a_line_and_a_cosine_are_in_the_middle_and_a_step_has_not_gone():
    assert [Schedule(kind, 1.0, 3.0).at(0.5) for kind in ("linear", "cosine", "step")] == pytest.approx([2, 2, 1])
    assert Schedule("cosine", 0.0, 1.0).at(0.25) == pytest.approx((1 - math.sqrt(0.5)) / 2)


def test_what_a_weight_counts_for():
    assert nominal(0.3, 0.9) == 0.3
    assert nominal("learned", 0.0) == nominal("balanced", 1.0) == 1.0
    assert counts(Schedule("linear", 0.0, 1.0))
    assert not counts(Schedule("linear", 0.0, 0.0))
    assert not counts(0.0)


@pytest.mark.parametrize("bounds", [{"after": 0.5, "until": 0.5}, {"until": 1.5}, {"after": -0.1}])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(UserError, match="0 <= after < until <= 1"):
        Schedule("linear", 0.0, 1.0, **bounds)
    with pytest.raises(UserError, match="finite"):
        Schedule("linear", 0.0, math.inf)
