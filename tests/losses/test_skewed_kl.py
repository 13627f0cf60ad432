import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.losses.skewed_kl import SkewedKl, skewed_kl
from tests.losses import laws
from tests.losses.naive import of_rows, relative_entropy

BOTH = [False, True]


def naive(skew: float, reverse: bool) -> laws.Naive:
    def skewed(p: list[float], q: list[float]) -> float:
        first, other = (q, p) if reverse else (p, q)
        return relative_entropy(first, [skew * a + (1 - skew) * b for a, b in zip(first, other, strict=True)])

    return skewed


@pytest.mark.parametrize("shape", laws.SHAPES)
@pytest.mark.parametrize("reverse", BOTH)
def test_equal_to_a_naive_sum(shape: tuple[int, int], reverse: bool) -> None:
    laws.equals_naive(
        lambda s, t: skewed_kl(s, t, skew=0.2, reverse=reverse, temperature=2.0),
        of_rows(naive(0.2, reverse), 2.0),
        *laws.drawn(*shape),
    )


@pytest.mark.parametrize("reverse", BOTH)
def test_top_k_knowledge_is_merged_into_a_bucket(reverse: bool) -> None:
    laws.merges_all_but_the_top(SkewedKl(reverse=reverse, temperature=2.0), naive(0.1, reverse))


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(SkewedKl())


@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.booleans())
def test_between_zero_and_its_bound_and_zero_at_equality(seed: int, skew: float, reverse: bool) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    found = skewed_kl(student, teacher, skew=skew, reverse=reverse)
    assert (found > -1e-6).all()
    assert (found < math.log(1 / skew) + 1e-5).all()
    assert skewed_kl(teacher - 2, teacher, skew=skew, reverse=reverse).abs().max() < 1e-5


@pytest.mark.parametrize("reverse", BOTH)
def test_only_the_student_learns_and_rows_may_stand_in_any_order(reverse: bool) -> None:
    for law in (laws.only_the_student_learns, laws.ignores_the_order_of_rows):
        law(lambda s, t: skewed_kl(s, t, reverse=reverse), *laws.drawn(3, 5))


@pytest.mark.parametrize("reverse", BOTH)
def test_extreme_logits_give_finite_values_and_gradients(reverse: bool) -> None:
    laws.stays_finite(lambda s, t: skewed_kl(s, t, reverse=reverse))


@pytest.mark.parametrize("reverse", BOTH)
def test_the_gradient_keeps_its_size_over_temperatures(reverse: bool) -> None:
    found = laws.change_of_gradient(lambda t: lambda x, y: skewed_kl(x, y, reverse=reverse, temperature=t))
    assert 0.2 < found < 5


def test_an_impossible_skew_is_refused() -> None:
    with pytest.raises(UserError, match="skew is 1"):
        SkewedKl(skew=1)


@pytest.mark.parametrize("reverse", BOTH)
def test_the_slope_is_that_of_the_value(reverse: bool) -> None:
    laws.slope_is_that_of_the_value(
        lambda s, t: skewed_kl(s, t, skew=0.2, reverse=reverse, temperature=2.0), *laws.drawn(3, 5)
    )
