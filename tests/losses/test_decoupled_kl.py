import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.decoupled_kl import DecoupledKl, decoupled_kl
from limbeck.losses.kl import kl
from tests.losses import laws
from tests.losses.naive import relative_entropy, softmax

LABEL = torch.tensor([0, 2, 4])


def naive(student: Tensor, teacher: Tensor, label: Tensor) -> list[float]:
    def parts(logits: Tensor, y: int) -> tuple[list[float], list[float]]:
        p = softmax(logits, 4.0)
        rest = [x for c, x in enumerate(p) if c != y]
        return [p[y], sum(rest)], [x / sum(rest) for x in rest]

    losses = []
    for z, t, y in zip(student, teacher, label.tolist(), strict=True):
        (b_s, r_s), (b_t, r_t) = parts(z, y), parts(t, y)
        losses.append(16 * (1.0 * relative_entropy(b_t, b_s) + 8.0 * relative_entropy(r_t, r_s)))
    return losses


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(decoupled_kl, naive, *laws.drawn(*shape), LABEL[: shape[0]])


@given(st.integers(0, 10**6), st.floats(0.5, 8.0))
def test_weighed_by_the_teachers_mass_of_the_rest_it_is_hintons_loss(seed: int, temperature: float) -> None:
    student, teacher = laws.drawn(1, 7, seed=seed)
    rest = 1 - torch.softmax(teacher / temperature, 1)[0, 3].item()
    found = decoupled_kl(student, teacher, torch.tensor([3]), other_weight=rest, temperature=temperature)
    torch.testing.assert_close(found, kl(student, teacher, temperature=temperature), rtol=1e-3, atol=1e-4)


@given(st.integers(0, 10**6))
def test_never_below_zero_and_zero_at_equality(seed: int) -> None:
    student, teacher = laws.drawn(3, 5, seed=seed)
    assert (decoupled_kl(student, teacher, LABEL) > -1e-4).all()
    assert decoupled_kl(teacher + 1, teacher, LABEL).abs().max() < 1e-3


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(decoupled_kl, *laws.drawn(3, 5), LABEL)
    laws.ignores_the_order_of_rows(decoupled_kl, *laws.drawn(3, 5), LABEL)


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    for label in (0, -1):
        laws.stays_finite(lambda s, t, y=label: decoupled_kl(s, t, torch.full((len(s),), y)))


def test_a_teacher_without_another_class_has_no_ranking_to_teach() -> None:
    student, teacher = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[0.0, -math.inf, -math.inf]])
    label = torch.tensor([0])
    whole = decoupled_kl(student, teacher, label, temperature=1.0)
    assert whole.item() == pytest.approx(-torch.log_softmax(student, 1)[0, 0].item(), rel=1e-5)


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    label = torch.arange(8)
    found = laws.change_of_gradient(lambda t: lambda x, y: decoupled_kl(x, y, label, temperature=t))
    assert 0.2 < found < 5


def test_rows_without_a_label_do_not_count() -> None:
    student, teacher = laws.drawn(3, 5)
    found = DecoupledKl()({"logits": student}, {"logits": teacher}, {"label": torch.tensor([0, -1, 4])})
    wanted = decoupled_kl(student, teacher, LABEL)[[0, 2]].mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["target_weight", "other_weight", "temperature"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is -1"):
        DecoupledKl(**{name: -1})
