import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.losses.probabilistic_transfer import ProbabilisticTransfer, probabilistic_transfer
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> float:
    """Pair by pair, without the small number that the source adds to both probabilities."""

    def neighbours(rows: list[list[float]]) -> list[list[float]]:
        found = []
        for x in rows:
            cosines = [sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y) for y in rows]
            kernel = [(1 + c) / 2 for c in cosines]
            found.append([k / sum(kernel) for k in kernel])
        return found

    q, p = neighbours(student.tolist()), neighbours(teacher.tolist())
    terms = [b * math.log(b / a) for s, t in zip(q, p, strict=True) for a, b in zip(s, t, strict=True)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("shape", [(3, 5), (5, 41), (4, 401)])
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    student, teacher = laws.drawn(*shape)
    laws.equals_naive(probabilistic_transfer, naive, student, teacher[:, :4].contiguous(), rounding=0.2)


@given(st.integers(0, 10**6), st.floats(0.1, 10.0))
def test_never_below_zero_and_blind_to_turning_and_to_lengths(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(5, 4, seed=seed)
    turn = torch.linalg.qr(laws.drawn(4, 4, seed=seed + 1)[0])[0]
    found = probabilistic_transfer(student, teacher).item()
    assert found >= -1e-6
    lengths = torch.linspace(0.5, factor, 5).unsqueeze(1)
    assert probabilistic_transfer(lengths * teacher @ turn, teacher).item() == pytest.approx(0, abs=1e-6)
    assert probabilistic_transfer(lengths * student @ turn, teacher).item() == pytest.approx(found, rel=1e-3, abs=1e-6)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(probabilistic_transfer, *laws.drawn(4, 5))
    laws.ignores_the_order_of_rows(probabilistic_transfer, *laws.drawn(4, 5))


def test_a_single_row_has_nothing_to_teach_and_opposites_are_no_neighbours() -> None:
    assert probabilistic_transfer(*laws.drawn(1, 5)).item() == 0
    opposite = torch.tensor([[1.0, 0.3], [-1.0, -0.3]], requires_grad=True)
    loss = probabilistic_transfer(opposite, torch.ones(2, 2))
    (gradient,) = torch.autograd.grad(loss, opposite)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_extreme_states_give_finite_values_and_gradients() -> None:
    hidden.stays_finite(ProbabilisticTransfer(student="a", teacher="b"))


def test_pairs_of_parts_are_added_up() -> None:
    student, teacher = laws.drawn(4, 5)
    found = hidden.value(ProbabilisticTransfer(student=["a", "b"], teacher=["c", "d"]), student, teacher)
    torch.testing.assert_close(found, 2 * probabilistic_transfer(student, teacher))


def test_it_brings_the_neighbourhoods_together() -> None:
    hidden.learns(ProbabilisticTransfer(student="a", teacher="b"), *laws.drawn(4, 5), steps=100)
