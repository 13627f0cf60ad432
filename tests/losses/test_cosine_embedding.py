import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.losses.cosine_embedding import CosineEmbedding, cosine_embedding
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> list[list[float]]:
    """Row by row."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        product = sum(a * b for a, b in zip(s, t, strict=True))
        rows.append([1 - product / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t))])
    return rows


@pytest.mark.parametrize("shape", [(3, 5), (3, 41), (2, 401)])
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(cosine_embedding, naive, *laws.drawn(*shape))


def test_places_are_compared_one_by_one() -> None:
    student, teacher = laws.drawn(2, 3, 4, 5)
    found = cosine_embedding(student, teacher)[1, 7]
    torch.testing.assert_close(found, 1 - torch.cosine_similarity(student[1, :, 1, 2], teacher[1, :, 1, 2], dim=0))


@given(st.integers(0, 10**6), st.floats(0.01, 100.0))
def test_between_0_and_2_and_blind_to_length(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    found = cosine_embedding(student, teacher)
    assert (found >= 0).all()
    assert (found <= 2 + 1e-6).all()
    torch.testing.assert_close(cosine_embedding(factor * student, teacher), found, rtol=1e-4, atol=1e-5)
    assert cosine_embedding(factor * teacher, teacher).abs().max() < 1e-5


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_only_the_student_learns_and_rows_may_stand_in_any_order(shape: tuple[int, ...]) -> None:
    laws.only_the_student_learns(cosine_embedding, *laws.drawn(*shape))
    laws.ignores_the_order_of_rows(cosine_embedding, *laws.drawn(*shape))


def test_padding_does_not_count() -> None:
    hidden.leaves_out_padding(CosineEmbedding(student="a", teacher="b"))


def test_it_learns_through_its_projection() -> None:
    hidden.learns(CosineEmbedding(student="a", teacher="b"), *laws.drawn(5, 7))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(CosineEmbedding(student="a", teacher="b"), shape)
