import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.policy_kl import PolicyKl, policy_kl
from tests.losses import laws
from tests.losses.naive import relative_entropy, softmax


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    both = zip(student, teacher, strict=True)
    return [relative_entropy(softmax(t, 0.5), softmax(s)) for s, t in both]


def loss(student: Tensor, teacher: Tensor) -> Tensor:
    return policy_kl(student, teacher, temperature=0.5)


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(loss, naive, *laws.drawn(*shape))


@given(st.integers(0, 10**6))
def test_never_below_zero_and_zero_at_the_sharpened_teacher(seed: int) -> None:
    student, teacher = laws.drawn(3, 5, seed=seed)
    assert (loss(student, teacher) > -1e-5).all()
    assert loss(teacher / 0.5, teacher).abs().max() < 1e-4


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(policy_kl, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(policy_kl, *laws.drawn(3, 5))


def test_extreme_values_and_forbidden_actions_give_finite_values_and_gradients() -> None:
    laws.stays_finite(policy_kl)


def test_the_gradient_does_not_hang_on_the_temperature() -> None:
    """Only the teacher is sharpened: T^2 would shrink the whole term ten thousand times at its default."""
    student, teacher = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])
    norms = [
        laws.gradient(lambda s, v, t=t: policy_kl(s, v, temperature=t), student, teacher).norm() for t in (1e-3, 0.1)
    ]
    assert norms[0] / norms[1] == pytest.approx(1.0, rel=1e-3)


def test_the_soft_target_is_the_sharpened_policy() -> None:
    found = PolicyKl(temperature=0.5).target({"values": torch.tensor([[1.0, 0.0]])}, {})
    assert found is not None
    assert found[0].tolist() == pytest.approx(softmax(torch.tensor([2.0, 0.0])))


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        PolicyKl(temperature=0)
