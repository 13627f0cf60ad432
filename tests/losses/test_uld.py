import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.losses.uld import Uld, uld
from tests.losses import laws
from tests.losses.naive import softmax


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    losses = []
    for z, t in zip(student, teacher, strict=True):
        q, p = (sorted(softmax(x), reverse=True) for x in (z, t))
        longest = max(len(q), len(p))
        q, p = (x + [0.0] * (longest - len(x)) for x in (q, p))
        losses.append(sum(abs(a - b) for a, b in zip(p, q, strict=True)))
    return losses


@pytest.mark.parametrize(("mine", "theirs"), [(5, 5), (5, 41), (401, 41)])
def test_equal_to_a_naive_sum(mine: int, theirs: int) -> None:
    laws.equals_naive(uld, naive, laws.drawn(3, mine)[0], laws.drawn(3, theirs, seed=1)[0])


@given(st.integers(0, 10**6), st.permutations(range(7)))
def test_how_tokens_are_numbered_changes_nothing(seed: int, order: list[int]) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    torch.testing.assert_close(uld(student[:, order], teacher), uld(student, teacher))
    assert uld(teacher[:, order] + 1, teacher).max() < 1e-5
    assert (uld(student, teacher) <= 2 + 1e-6).all()


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(uld, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(uld, *laws.drawn(3, 5))


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    laws.stays_finite(uld)


def test_texts_are_compared_up_to_the_end_of_the_shorter_one() -> None:
    student, teacher = laws.drawn(2, 4, 5)[0], laws.drawn(2, 3, 7, seed=1)[0]
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    found = Uld()({"steps": student}, {"steps": teacher}, {"mask": mask})
    there = mask[:, :3].bool()
    assert found.item() == pytest.approx(uld(student[:, :3][there], teacher[there]).mean().item(), rel=1e-6)
