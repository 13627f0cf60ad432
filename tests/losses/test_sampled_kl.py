import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.kl import Kl, kl
from limbeck.losses.sampled_kl import SampledKl, sampled_kl
from limbeck.types import Signals
from tests.losses import laws
from tests.losses.naive import merged, relative_entropy, softmax

ROWS = 3000


def drawn_often(seed: int, classes: int = 41) -> tuple[Tensor, Tensor, Signals]:
    """One row of student and teacher again and again, with other entries drawn each time: 5 best and 6 of the rest."""
    student, teacher = laws.drawn(1, classes, seed=seed, scale=2.0)
    again = student.repeat(ROWS, 1).requires_grad_()
    return again, teacher, laws.stored(teacher.repeat(ROWS, 1), 5, 2.0, sampled=6)


def said(signals: Signals) -> tuple[Tensor, Tensor, Tensor]:
    return signals["logits.ids"].long(), signals["logits.values"], signals["logits.tail"][:, 0]


def test_equal_to_a_naive_sum() -> None:
    student, teacher = laws.drawn(3, 41)
    signals = laws.stored(teacher, 5, 2.0, sampled=6)

    def naive(z: Tensor, ids: Tensor, values: Tensor, tail: Tensor) -> list[float]:
        losses = []
        for row, kept in enumerate(ids.tolist()):
            best, others = kept[:5], kept[5:]
            p, q = softmax(teacher[row].double(), 2.0), softmax(z[row], 2.0)
            (*_, p_rest), (*_, q_rest) = p_best, q_best = merged(p, best), merged(q, best)
            ratios = [(q[c] / q_rest) / (p[c] / p_rest) for c in others]
            within = sum(p[c] * (r - 1 - math.log(r)) for c, r in zip(others, ratios, strict=True))
            losses.append(4 * (relative_entropy(p_best, q_best) + 36 / 6 * within))
        return losses

    def loss(z: Tensor, *more: Tensor) -> Tensor:
        return sampled_kl(z, *more, top=5, temperature=2.0)

    found = loss(student, *said(signals))
    wanted = torch.tensor(naive(student.double(), *said(signals)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_over_draws_its_mean_and_that_of_its_gradient_are_those_of_all_classes(seed: int) -> None:
    student, teacher, signals = drawn_often(seed)
    losses = sampled_kl(student, *said(signals), top=5, temperature=2.0)
    (gradients,) = torch.autograd.grad(losses.sum(), student)
    one = student.detach()[:1].requires_grad_()
    whole = kl(one, teacher, temperature=2.0)
    (exact,) = torch.autograd.grad(whole, one)
    error = losses.std() / math.sqrt(ROWS)
    assert (losses.mean() - whole).abs() < 4 * error
    assert error < 0.02 * whole
    apart = (gradients.mean(0) - exact[0]).abs() / (gradients.std(0) / math.sqrt(ROWS)).clamp(min=1e-6)
    assert apart.max() < 4.5
    bucket = Kl(temperature=2.0)({"logits": student}, signals, {})
    assert (bucket - whole).abs() > 8 * error  # a lower bound, as near as it gets


def test_all_others_drawn_it_is_the_whole_divergence() -> None:
    student, teacher = laws.drawn(3, 9)
    for sampled in (4, 7):  # as many as there are, and more
        signals = laws.stored(teacher, 5, 3.0, sampled=sampled)
        found = SampledKl(sampled=sampled, temperature=3.0)({"logits": student}, signals, {})
        assert found.item() == pytest.approx(kl(student, teacher, temperature=3.0).mean().item(), rel=1e-4)


def test_from_whole_logits_and_from_none_drawn_it_is_kl() -> None:
    student, teacher = laws.drawn(3, 9)
    for signals in ({"logits": teacher}, laws.stored(teacher, 4, 2.0)):
        found = SampledKl(temperature=2.0)({"logits": student}, signals, {})
        assert found.item() == pytest.approx(Kl(temperature=2.0)({"logits": student}, signals, {}).item(), rel=1e-6)


def test_a_student_that_says_what_the_teacher_says_loses_nothing_whatever_is_drawn() -> None:
    _, teacher = laws.drawn(3, 41)
    signals = laws.stored(teacher, 5, 2.0, sampled=6)
    assert sampled_kl(teacher + 1, *said(signals), top=5, temperature=2.0).abs().max() < 1e-4
    gradient = laws.gradient(lambda z: sampled_kl(z, *said(signals), top=5, temperature=2.0), teacher)
    assert gradient.abs().max() < 1e-4


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_never_below_zero(seed: int) -> None:
    student, teacher = laws.drawn(3, 41, seed=seed)
    found = sampled_kl(student, *said(laws.stored(teacher, 5, 2.0, sampled=6)), top=5, temperature=2.0)
    assert (found > -1e-5).all()


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    student, teacher = laws.drawn(3, 41)
    ids, values, tail = said(laws.stored(teacher, 5, 1.0, sampled=6))

    def loss(z: Tensor, v: Tensor, i: Tensor, t: Tensor) -> Tensor:
        return sampled_kl(z, i, v, t, top=5)

    laws.only_the_student_learns(loss, student, values, ids, tail)
    laws.ignores_the_order_of_rows(loss, student, values, ids, tail)


def test_extreme_logits_and_classes_ruled_out_give_finite_values_and_gradients() -> None:
    hot = torch.tensor([[1e4, -1e4, 0.0, -1e4, 5.0], [0.0, 1e4, -math.inf, -math.inf, -math.inf]])
    signals = laws.stored(hot, 1, 1.0, sampled=2)
    for student in (torch.zeros(2, 5), hot.clamp(min=-1e4), -hot.clamp(min=-1e4)):
        leaf = student.clone().requires_grad_()
        losses = sampled_kl(leaf, *said(signals), top=1)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        assert torch.isfinite(losses).all()
        assert torch.isfinite(gradient).all()


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    norms = []
    for temperature in (1.0, 8.0):
        student, teacher = laws.drawn(8, 401, scale=1.0)
        signals = laws.stored(teacher, 20, temperature, sampled=100)
        leaf = student.requires_grad_()
        sampled_kl(leaf, *said(signals), top=20, temperature=temperature).sum().backward()
        assert leaf.grad is not None
        norms.append(leaf.grad.norm().item())
    assert 0.2 < norms[1] / norms[0] < 5


@pytest.mark.parametrize("sampled", [3, 11])
def test_another_number_than_was_drawn_is_refused_before_training(sampled: int) -> None:
    student, teacher = laws.drawn(8, 41)
    signals = laws.stored(teacher, 5, 1.0, sampled=6)
    with pytest.raises(UserError, match=f"sampled is {sampled}, but"):
        SampledKl(sampled=sampled).size({"logits": student}, signals, {})
    SampledKl(sampled=6).size({"logits": student}, signals, {})


def test_an_impossible_number_is_refused() -> None:
    with pytest.raises(UserError, match="sampled is -1"):
        SampledKl(sampled=-1)
