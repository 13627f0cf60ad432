import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.losses.generalised_jsd import GeneralisedJsd, generalised_jsd
from limbeck.losses.kl import kl
from limbeck.losses.reverse_kl import reverse_kl
from tests.losses import laws
from tests.losses.naive import of_rows, relative_entropy


def naive(beta: float) -> laws.Naive:
    def jsd(p: list[float], q: list[float]) -> float:
        mixed = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
        return beta * relative_entropy(p, mixed) + (1 - beta) * relative_entropy(q, mixed)

    return jsd


@pytest.mark.parametrize("shape", laws.SHAPES)
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_equal_to_a_naive_sum(shape: tuple[int, int], beta: float) -> None:
    laws.equals_naive(
        lambda s, t: generalised_jsd(s, t, beta=beta, temperature=2.0), of_rows(naive(beta), 2.0), *laws.drawn(*shape)
    )


def test_top_k_knowledge_is_merged_into_a_bucket() -> None:
    laws.merges_all_but_the_top(GeneralisedJsd(beta=0.3, temperature=2.0), naive(0.3))


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(GeneralisedJsd())


@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_between_zero_and_log_2_and_zero_at_equality(seed: int, beta: float) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    found = generalised_jsd(student, teacher, beta=beta)
    assert (found > -1e-6).all()
    assert (found < math.log(2) + 1e-6).all()
    assert generalised_jsd(teacher - 2, teacher, beta=beta).abs().max() < 1e-5
    swapped = generalised_jsd(teacher, student, beta=1 - beta)
    torch.testing.assert_close(found, swapped, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("beta", "end"), [(1e-3, kl), (1 - 1e-3, reverse_kl)])
def test_its_gradient_nears_forward_and_reverse_kl_at_the_ends(beta: float, end: laws.Loss) -> None:
    student, teacher = laws.drawn(3, 5, scale=1.0)
    mine = laws.gradient(lambda s, t: generalised_jsd(s, t, beta=beta), student, teacher)
    theirs = laws.gradient(lambda s, t: end(s, t, temperature=1.0), student, teacher)
    torch.testing.assert_close(mine / min(beta, 1 - beta), theirs, rtol=0.05, atol=0.02)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(generalised_jsd, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(generalised_jsd, *laws.drawn(3, 5))


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    laws.stays_finite(generalised_jsd)


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    assert 0.2 < laws.change_of_gradient(lambda t: lambda x, y: generalised_jsd(x, y, temperature=t)) < 5


@pytest.mark.parametrize("beta", [0.0, 1.0, math.nan])
def test_an_impossible_share_is_refused(beta: float) -> None:
    with pytest.raises(UserError, match=r"beta is .*; it must be between 0 and 1, and neither"):
        GeneralisedJsd(beta=beta)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_the_slope_is_that_of_the_value(beta: float) -> None:
    laws.slope_is_that_of_the_value(lambda s, t: generalised_jsd(s, t, beta=beta, temperature=2.0), *laws.drawn(3, 5))
