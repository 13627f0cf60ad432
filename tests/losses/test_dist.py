import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.dist import Dist, dist
from tests.losses import laws
from tests.losses.naive import softmax


def correlation(first: list[float], second: list[float]) -> float:
    means = [sum(x) / len(x) for x in (first, second)]
    apart = [[v - mean for v in x] for x, mean in zip((first, second), means, strict=True)]
    lengths = [math.sqrt(sum(v * v for v in x)) for x in apart]
    return sum(a * b for a, b in zip(*apart, strict=True)) / (lengths[0] * lengths[1])


def naive(student: Tensor, teacher: Tensor) -> float:
    q, p = ([softmax(row, 2.0) for row in logits] for logits in (student, teacher))
    rows = [1 - correlation(a, b) for a, b in zip(q, p, strict=True)]
    classes = [
        1 - correlation(list(a), list(b)) for a, b in zip(zip(*q, strict=True), zip(*p, strict=True), strict=True)
    ]
    return 3 * sum(rows) / len(rows) + 0.5 * sum(classes) / len(classes)


def weighed(student: Tensor, teacher: Tensor) -> Tensor:
    return dist(student, teacher, row_weight=3.0, class_weight=0.5, temperature=2.0)


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(weighed, naive, *laws.drawn(*shape, scale=2.0))


@given(st.integers(0, 10**6))
def test_between_zero_and_its_bound_and_zero_at_equality(seed: int) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    assert -1e-5 < dist(student, teacher).item() < 4 + 1e-5
    assert dist(teacher + 1, teacher).abs().item() < 1e-4


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(dist, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(dist, *laws.drawn(3, 5))


def test_extreme_logits_single_rows_and_classes_give_finite_values_and_gradients() -> None:
    laws.stays_finite(dist)


def test_a_single_row_has_no_relation_to_other_rows() -> None:
    student, teacher = laws.drawn(1, 5)
    assert dist(student, teacher, row_weight=0.0).item() == 0.0
    assert not laws.gradient(lambda s, t: dist(s, t, row_weight=0.0), student, teacher).any()


def test_the_gradient_keeps_its_size_over_temperatures_without_t_squared() -> None:
    found = laws.change_of_gradient(lambda t: lambda x, y: dist(x, y, temperature=t), between=(8.0, 64.0))
    assert 0.8 < found < 1.25


def test_the_soft_target_is_the_teachers_distribution() -> None:
    _, teacher = laws.drawn(2, 3)
    found = Dist(temperature=4.0).target({"logits": teacher}, {})
    assert found is not None
    torch.testing.assert_close(found, torch.softmax(teacher, 1))


@pytest.mark.parametrize("name", ["row_weight", "class_weight", "temperature"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is -1"):
        Dist(**{name: -1})
