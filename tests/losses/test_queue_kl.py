import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from limbeck.errors import UserError
from limbeck.losses.queue_kl import QueueKl, queue_kl
from tests.losses import hidden, laws
from tests.losses.naive import relative_entropy, softmax


def naive(student: Tensor, teacher: Tensor, queue: Tensor, scales: tuple[float, float] = (0.2, 0.01)) -> list[float]:
    """Row by row, entry by entry."""

    def cosine(x: list[float], y: list[float]) -> float:
        return sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)

    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        near = [[cosine(side, entry) for entry in [t, *queue.tolist()]] for side in (s, t)]
        q, p = (softmax(torch.tensor(x, dtype=torch.float64), scale) for x, scale in zip(near, scales, strict=True))
        rows.append(relative_entropy(p, q))
    return rows


def drawn(width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher = laws.drawn(3, width, seed=seed)
    return student, teacher, normalize(laws.drawn(9, width, seed=seed + 1)[0], dim=1)


@pytest.mark.parametrize("width", [5, 41, 401])
@pytest.mark.parametrize("scales", [(0.2, 0.1), (1.0, 0.5)])
def test_equal_to_a_naive_sum(width: int, scales: tuple[float, float]) -> None:
    student, teacher, queue = drawn(width)
    laws.equals_naive(
        lambda s, t: queue_kl(s, t, queue, temperature=scales[0], teacher_temperature=scales[1]),
        lambda s, t: naive(s, t, queue, scales),
        student,
        teacher,
        rounding=0.2,
    )


@given(st.integers(0, 10**6), st.floats(0.1, 10.0))
def test_zero_for_equals_never_below_and_blind_to_length(seed: int, factor: float) -> None:
    student, teacher, queue = drawn(seed=seed)
    found = queue_kl(student, teacher, queue)
    assert (found >= -1e-6).all()
    torch.testing.assert_close(queue_kl(factor * student, teacher, queue), found, rtol=1e-3, atol=1e-4)
    same = queue_kl(factor * teacher, teacher, queue, temperature=0.1, teacher_temperature=0.1)
    assert same.abs().max() < 1e-4


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    student, teacher, queue = drawn()
    laws.only_the_student_learns(queue_kl, student, teacher, queue)
    laws.ignores_the_order_of_rows(lambda s, t: queue_kl(s, t, queue), student, teacher)


def test_the_teachers_rows_take_the_place_of_the_oldest_while_it_learns() -> None:
    student, teacher = laws.drawn(3, 5)
    term = hidden.sized(QueueKl(student="a", teacher="b", slots=5), student, teacher)
    start, rows = term.queue0.clone(), normalize(teacher, dim=1)
    with torch.no_grad():
        hidden.value(term, student, teacher)
    hidden.value(term.eval(), student, teacher)
    assert torch.equal(term.queue0, start)
    hidden.value(term.train(), student, teacher)
    torch.testing.assert_close(term.queue0, torch.cat([rows, start[3:]]))
    hidden.value(term, student, teacher)
    torch.testing.assert_close(term.queue0, rows[[2, 1, 2, 0, 1]])
    assert term.next == 1


def test_a_batch_longer_than_the_queue_leaves_its_last_rows() -> None:
    student, teacher = laws.drawn(7, 5)
    term = hidden.sized(QueueKl(student="a", teacher="b", slots=5), student, teacher)
    hidden.value(term, student, teacher)
    rows = normalize(teacher, dim=1)
    torch.testing.assert_close(term.queue0, rows[[5, 6, 2, 3, 4]])
    assert term.next == 2


def test_each_row_is_compared_with_the_queue_as_it_was() -> None:
    student, teacher = laws.drawn(3, 5)
    term = hidden.sized(QueueKl(student="a", teacher="b", slots=4), student, teacher)
    wanted = queue_kl(term.projections[0](student, teacher), teacher, term.queue0).mean()
    torch.testing.assert_close(hidden.value(term, student, teacher), wanted)


def test_padding_does_not_count() -> None:
    hidden.leaves_out_padding(QueueKl(student="a", teacher="b", slots=8).eval())


def test_it_learns_through_its_projection() -> None:
    hidden.learns(QueueKl(student="a", teacher="b", slots=32), *laws.drawn(5, 7))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(QueueKl(student="a", teacher="b", slots=8), shape)


def test_impossible_settings_are_refused() -> None:
    for name in ("temperature", "teacher_temperature", "slots"):
        with pytest.raises(UserError, match=f"{name} is 0"):
            QueueKl(student="a", teacher="b", **{name: 0})
