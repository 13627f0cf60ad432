import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.losses.total_variation import TotalVariation, total_variation
from tests.losses import laws
from tests.losses.naive import of_rows


def naive(p: list[float], q: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2


@pytest.mark.parametrize("shape", laws.SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_to_a_naive_sum(shape: tuple[int, int], temperature: float) -> None:
    wanted = of_rows(naive, temperature, factor=temperature)
    laws.equals_naive(lambda s, t: total_variation(s, t, temperature=temperature), wanted, *laws.drawn(*shape))


def test_top_k_knowledge_is_merged_into_a_bucket() -> None:
    laws.merges_all_but_the_top(TotalVariation(temperature=1.0), naive)


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(TotalVariation())


@given(st.integers(0, 10**6))
def test_a_distance_between_zero_and_one(seed: int) -> None:
    first, second, third = laws.drawn(3, 7, seed=seed, count=3)
    found = total_variation(first, second)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()
    assert total_variation(first + 1, first).max() < 1e-6
    assert (found <= total_variation(first, third) + total_variation(third, second) + 1e-6).all()


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(total_variation, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(total_variation, *laws.drawn(3, 5))


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    laws.stays_finite(total_variation)


def test_t_keeps_the_gradients_size_where_t_squared_would_raise_it() -> None:
    found = laws.change_of_gradient(lambda t: lambda x, y: total_variation(x, y, temperature=t), between=(8.0, 64.0))
    assert 0.8 < found < 1.25


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature is -1"):
        TotalVariation(temperature=-1)
