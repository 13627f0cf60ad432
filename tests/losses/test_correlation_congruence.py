import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.correlation_congruence import CorrelationCongruence, correlation_congruence
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> float:
    """Pair by pair."""

    def kernel(rows: list[list[float]]) -> list[float]:
        found = []
        for x in rows:
            for y in rows:
                cosine = sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
                series = sum((2 * gamma * cosine) ** p / math.factorial(p) for p in range(order + 1))
                found.append(math.exp(-2 * gamma) * series)
        return found

    both = zip(kernel(student.tolist()), kernel(teacher.tolist()), strict=True)
    return sum((a - b) ** 2 for a, b in both) / len(student) ** 2


@pytest.mark.parametrize("shape", [(3, 5), (5, 41), (4, 401)])
@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (1.5, 4)])
def test_equal_to_a_naive_sum(shape: tuple[int, int], gamma: float, order: int) -> None:
    student, teacher = laws.drawn(*shape)
    laws.equals_naive(
        lambda s, t: correlation_congruence(s, t, gamma=gamma, order=order),
        lambda s, t: naive(s, t, gamma, order),
        student,
        teacher[:, :4].contiguous(),
        rounding=0.1,
    )


def test_a_long_series_is_the_gaussian_kernel_of_directions() -> None:
    student, teacher = laws.drawn(4, 6)
    kernels = []
    for states in (student, teacher):
        directions = torch.nn.functional.normalize(states, dim=1)
        kernels.append(torch.exp(-0.4 * torch.cdist(directions, directions).square()))
    wanted = (kernels[0] - kernels[1]).square().mean()
    torch.testing.assert_close(correlation_congruence(student, teacher, order=20), wanted, rtol=1e-4, atol=1e-7)


@given(st.integers(0, 10**6), st.floats(0.1, 10.0))
def test_never_below_zero_and_blind_to_turning_and_to_lengths(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(5, 4, seed=seed)
    turn = torch.linalg.qr(laws.drawn(4, 4, seed=seed + 1)[0])[0]
    found = correlation_congruence(student, teacher).item()
    assert found >= 0
    assert correlation_congruence(factor * teacher @ turn, teacher).item() == pytest.approx(0, abs=1e-6)
    assert correlation_congruence(factor * student @ turn, teacher).item() == pytest.approx(found, rel=1e-3, abs=1e-6)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(correlation_congruence, *laws.drawn(4, 5))
    laws.ignores_the_order_of_rows(correlation_congruence, *laws.drawn(4, 5))


def test_extreme_states_give_finite_values_and_gradients() -> None:
    hidden.stays_finite(CorrelationCongruence(student="a", teacher="b"))


def test_the_term_uses_its_settings_and_adds_pairs_up() -> None:
    student, teacher = laws.drawn(4, 5)
    term = CorrelationCongruence(student=["a", "b"], teacher=["c", "d"], gamma=0.7, order=3)
    wanted = 2 * correlation_congruence(student, teacher, gamma=0.7, order=3)
    torch.testing.assert_close(hidden.value(term, student, teacher), wanted)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="gamma is 0"):
        CorrelationCongruence(student="a", teacher="b", gamma=0)
    with pytest.raises(UserError, match="order is 0"):
        CorrelationCongruence(student="a", teacher="b", order=0)
