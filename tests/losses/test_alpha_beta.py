import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.losses.alpha_beta import AlphaBeta, alpha_beta
from limbeck.losses.kl import kl
from limbeck.losses.reverse_kl import reverse_kl
from tests.losses import laws
from tests.losses.naive import of_rows

POWERS = [(0.2, 0.7), (0.9, 0.2), (1.0, 1.0), (0.5, 0.0), (0.0, 0.5)]


def naive(a: float, b: float) -> laws.Naive:
    def of_class(p: float, q: float) -> float:
        if b == 0:
            return (p**a * math.log(p**a / q**a) - p**a + q**a) / a**2
        if a == 0:
            return (q**b * math.log(q**b / p**b) - q**b + p**b) / b**2
        return -(p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)) / (a * b)

    return lambda p, q: sum(of_class(x, y) for x, y in zip(p, q, strict=True))


@pytest.mark.parametrize("shape", laws.SHAPES)
@pytest.mark.parametrize(("alpha", "beta"), POWERS)
def test_equal_to_a_naive_sum(shape: tuple[int, int], alpha: float, beta: float) -> None:
    laws.equals_naive(
        lambda s, t: alpha_beta(s, t, alpha=alpha, beta=beta, temperature=2.0),
        of_rows(naive(alpha, beta), 2.0),
        *laws.drawn(*shape),
    )


def test_forward_and_reverse_kl_are_its_ends() -> None:
    student, teacher = laws.drawn(3, 41)
    for powers, end in (((1.0, 0.0), kl), ((0.0, 1.0), reverse_kl)):
        wanted = end(student, teacher, temperature=2.0)
        for near in (0.0, 1e-4):
            alpha, beta = (max(power, near) for power in powers)
            found = alpha_beta(student, teacher, alpha=alpha, beta=beta, temperature=2.0)
            torch.testing.assert_close(found, wanted, rtol=5e-3, atol=1e-4)


def test_top_k_knowledge_is_merged_into_a_bucket() -> None:
    laws.merges_all_but_the_top(AlphaBeta(temperature=2.0), naive(0.2, 0.7))


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(AlphaBeta())


@given(st.integers(0, 10**6), st.floats(0.1, 1.5), st.floats(0.1, 1.5))
def test_never_below_zero_and_zero_at_equality(seed: int, alpha: float, beta: float) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    assert (alpha_beta(student, teacher, alpha=alpha, beta=beta) > -1e-4).all()
    assert alpha_beta(teacher + 1, teacher, alpha=alpha, beta=beta).abs().max() < 1e-4


@pytest.mark.parametrize(("alpha", "beta"), POWERS)
def test_only_the_student_learns_whatever_the_powers(alpha: float, beta: float) -> None:
    def loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return alpha_beta(student, teacher, alpha=alpha, beta=beta)

    laws.only_the_student_learns(loss, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(loss, *laws.drawn(3, 5))
    laws.stays_finite(loss)


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    found = laws.change_of_gradient(lambda t: lambda x, y: alpha_beta(x, y, temperature=t), between=(8.0, 64.0))
    assert 0.8 < found < 1.25


@pytest.mark.parametrize(("alpha", "beta", "words"), [(-1, 1, "alpha is -1"), (1, -1, "beta is -1"), (0, 0, "both 0")])
def test_impossible_powers_are_refused(alpha: float, beta: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        AlphaBeta(alpha=alpha, beta=beta)
