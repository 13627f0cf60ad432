import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.srd import Srd, srd
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor, exponent: float = 4.0) -> float:
    """Width by width."""

    def standard(width: list[float]) -> list[float]:
        mean = sum(width) / len(width)
        variance = sum((x - mean) ** 2 for x in width) / len(width)
        return [(x - mean) / math.sqrt(variance + 1e-5) for x in width]

    apart = []
    for s, t in zip(student.T.tolist(), teacher.T.tolist(), strict=True):
        apart += [abs(a - b) ** exponent for a, b in zip(standard(s), standard(t), strict=True)]
    return math.log(sum(apart) / len(apart) + 1e-6)


@pytest.mark.parametrize("shape", [(3, 5), (5, 41), (7, 401)])
@pytest.mark.parametrize("exponent", [1.0, 4.0])
def test_equal_to_a_naive_sum(shape: tuple[int, int], exponent: float) -> None:
    laws.equals_naive(
        lambda s, t: srd(s, t, exponent=exponent), lambda s, t: naive(s, t, exponent), *laws.drawn(*shape), rounding=0.1
    )


def test_every_place_is_a_row() -> None:
    student, teacher = laws.drawn(2, 3, 4, 4)
    flat = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in (student, teacher)]
    torch.testing.assert_close(srd(student, teacher), srd(*flat))


@given(st.integers(0, 10**6), st.floats(0.5, 10.0))
def test_blind_to_each_widths_scale_and_least_for_equals(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(6, 4, seed=seed)
    scale = torch.linspace(1, factor, 4)
    assert srd(scale * student + 3, teacher).item() == pytest.approx(srd(student, teacher).item(), rel=1e-2, abs=1e-2)
    assert srd(teacher, teacher).item() == pytest.approx(math.log(1e-6), rel=1e-3)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(srd, *laws.drawn(4, 5))
    laws.ignores_the_order_of_rows(srd, *laws.drawn(4, 5))


def test_a_single_row_has_nothing_to_teach() -> None:
    assert not laws.gradient(srd, *laws.drawn(1, 5)).any()


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(Srd(student="a", teacher="b"), shape)


def test_the_term_uses_its_exponent_and_adds_pairs_up() -> None:
    student, teacher = laws.drawn(4, 5)
    term = hidden.sized(Srd(student=["a", "b"], teacher=["c", "d"], exponent=2.0), student, teacher)
    parts = [srd(project(student, teacher), teacher, exponent=2.0) for project in term.projections]
    torch.testing.assert_close(hidden.value(term, student, teacher), sum(parts))


def test_it_learns_through_its_projection() -> None:
    term = hidden.sized(Srd(student="a", teacher="b"), *laws.drawn(32, 7))
    student, teacher = laws.drawn(32, 7)
    optimizer = torch.optim.Adam([leaf := student.clone().requires_grad_(), *term.parameters()], 0.05)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = hidden.value(term, leaf, teacher)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 2


def test_an_impossible_exponent_is_refused() -> None:
    with pytest.raises(UserError, match=r"exponent is 0\.5"):
        Srd(student="a", teacher="b", exponent=0.5)
