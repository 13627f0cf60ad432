import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.relational import Relational, relational_angle, relational_distance
from tests.losses import hidden, laws


def huber(a: float, b: float) -> float:
    apart = abs(a - b)
    return apart**2 / 2 if apart < 1 else apart - 0.5


def distances(rows: list[list[float]]) -> list[list[float]]:
    found = [[math.dist(x, y) for y in rows] for x in rows]
    positive = [d for row in found for d in row if d > 0]
    mean = sum(positive) / len(positive)
    return [[d / mean for d in row] for row in found]


def angle(i: list[float], j: list[float], k: list[float]) -> float:
    to_j, to_k = ([b - a for a, b in zip(i, other, strict=True)] for other in (j, k))
    lengths = math.hypot(*to_j) * math.hypot(*to_k)
    return sum(a * b for a, b in zip(to_j, to_k, strict=True)) / lengths if lengths > 0 else 0.0


def naive_distance(student: Tensor, teacher: Tensor) -> float:
    mine, theirs = distances(student.tolist()), distances(teacher.tolist())
    return (
        sum(huber(a, b) for s, t in zip(mine, theirs, strict=True) for a, b in zip(s, t, strict=True)) / len(mine) ** 2
    )


def naive_angle(student: Tensor, teacher: Tensor) -> float:
    s, t, rows = student.tolist(), teacher.tolist(), range(len(student))
    found = [huber(angle(s[i], s[j], s[k]), angle(t[i], t[j], t[k])) for i in rows for j in rows for k in rows]
    return sum(found) / len(found)


BOTH = [(relational_distance, naive_distance), (relational_angle, naive_angle)]


@pytest.mark.parametrize(("loss", "naive"), BOTH)
@pytest.mark.parametrize("shape", [(3, 5), (4, 41), (3, 401)])
def test_equal_to_a_naive_sum(loss: laws.Loss, naive: laws.Naive, shape: tuple[int, int]) -> None:
    student, teacher = laws.drawn(*shape)
    laws.equals_naive(loss, naive, student, teacher[:, :3].contiguous(), rounding=0.1)


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
@given(st.integers(0, 10**6), st.floats(0.1, 10.0))
def test_moving_turning_and_scaling_all_rows_changes_nothing(loss: laws.Loss, seed: int, factor: float) -> None:
    student, teacher = laws.drawn(5, 4, seed=seed)
    turn = torch.linalg.qr(laws.drawn(4, 4, seed=seed + 1)[0])[0]
    assert loss(factor * teacher @ turn + 3, teacher).item() == pytest.approx(0, abs=1e-5)
    found = loss(student, teacher).item()
    assert found >= 0
    assert loss(factor * student @ turn + 3, teacher).item() == pytest.approx(found, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_only_the_student_learns_and_rows_may_stand_in_any_order(loss: laws.Loss) -> None:
    laws.only_the_student_learns(loss, *laws.drawn(4, 5))
    laws.ignores_the_order_of_rows(loss, *laws.drawn(4, 5))


def test_one_row_and_rows_that_are_alike_have_nothing_to_teach() -> None:
    for rows in (torch.ones(1, 4), torch.ones(3, 4)):
        leaf = rows.clone().requires_grad_()
        loss = relational_distance(leaf, rows) + relational_angle(leaf, rows)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert loss.item() == 0
        assert not gradient.any()


def test_extreme_states_give_finite_values_and_gradients() -> None:
    hidden.stays_finite(Relational(student="a", teacher="b"))


def test_the_term_weighs_distances_and_angles() -> None:
    student, teacher = laws.drawn(4, 5)
    near, wide = relational_distance(student, teacher), relational_angle(student, teacher)
    for distance, angle in ((25.0, 50.0), (0.0, 2.0), (3.0, 0.0)):
        term = Relational(student="a", teacher="b", distance=distance, angle=angle)
        torch.testing.assert_close(hidden.value(term, student, teacher), distance * near + angle * wide)
    both = Relational(student=["a", "b"], teacher=["c", "d"])
    torch.testing.assert_close(hidden.value(both, student, teacher), 2 * (25 * near + 50 * wide))


def test_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="angle is -1"):
        Relational(student="a", teacher="b", angle=-1)
    with pytest.raises(UserError, match="both 0"):
        Relational(student="a", teacher="b", distance=0, angle=0)
