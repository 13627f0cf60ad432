import math

import pytest

from limbeck.errors import UserError
from limbeck.setting import above_zero, at_least_zero, share


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_only_finite_numbers_above_0_are_above_zero(value: float) -> None:
    assert above_zero("size", 1e-9) == 1e-9
    with pytest.raises(UserError, match=f"size is {value}; it must be above 0"):
        above_zero("size", value)


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_only_finite_numbers_from_0_are_at_least_zero(value: float) -> None:
    assert at_least_zero("weight", 0) == 0
    with pytest.raises(UserError, match=f"weight is {value}; it must be 0 or more"):
        at_least_zero("weight", value)


def test_a_share_lies_between_0_and_1_and_an_open_one_is_neither() -> None:
    assert [share("part", value) for value in (0, 0.5, 1)] == [0, 0.5, 1]
    assert share("part", 0.5, open=True) == 0.5
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match=r"part is .*; it must be between 0 and 1$"):
            share("part", value)
    for value in (0, 1):
        with pytest.raises(UserError, match="between 0 and 1, and neither"):
            share("part", value, open=True)
