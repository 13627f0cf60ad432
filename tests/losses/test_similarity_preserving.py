import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.losses.similarity_preserving import SimilarityPreserving, similarity_preserving
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> float:
    """Pair by pair."""

    def similar(rows: list[list[float]]) -> list[list[float]]:
        products = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
        return [[g / math.hypot(*row) for g in row] for row in products]

    mine, theirs = similar(student.flatten(1).tolist()), similar(teacher.flatten(1).tolist())
    apart = [(a - b) ** 2 for s, t in zip(mine, theirs, strict=True) for a, b in zip(s, t, strict=True)]
    return sum(apart) / len(mine) ** 2


@pytest.mark.parametrize("shape", [(3, 5), (4, 401), (3, 4, 7), (2, 3, 4, 4)])
def test_equal_to_a_naive_sum(shape: tuple[int, ...]) -> None:
    student, teacher = laws.drawn(*shape)
    laws.equals_naive(similarity_preserving, naive, student, teacher[:, :3].contiguous(), rounding=0.1)


@given(st.integers(0, 10**6), st.floats(0.1, 10.0))
def test_never_below_zero_and_blind_to_turning_and_scale(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(5, 4, seed=seed)
    turn = torch.linalg.qr(laws.drawn(4, 4, seed=seed + 1)[0])[0]
    found = similarity_preserving(student, teacher).item()
    assert found >= 0
    assert similarity_preserving(factor * teacher @ turn, teacher).item() == pytest.approx(0, abs=1e-6)
    assert similarity_preserving(factor * student @ turn, teacher).item() == pytest.approx(found, rel=1e-3, abs=1e-6)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(similarity_preserving, *laws.drawn(4, 5))
    laws.ignores_the_order_of_rows(similarity_preserving, *laws.drawn(4, 5))


def test_a_single_row_has_nothing_to_teach() -> None:
    assert similarity_preserving(*laws.drawn(1, 5)).item() == pytest.approx(0, abs=1e-6)


def test_extreme_states_give_finite_values_and_gradients() -> None:
    hidden.stays_finite(SimilarityPreserving(student="a", teacher="b"))


def test_pairs_of_parts_are_added_up() -> None:
    student, teacher = laws.drawn(4, 5)
    found = hidden.value(SimilarityPreserving(student=["a", "b"], teacher=["c", "d"]), student, teacher)
    torch.testing.assert_close(found, 2 * similarity_preserving(student, teacher))


def test_it_brings_the_similarities_together() -> None:
    hidden.learns(SimilarityPreserving(student="a", teacher="b"), *laws.drawn(4, 5))
