import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.review import Review, review
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    """Row by row, level by level, box by box, for maps whose sizes the levels divide."""
    height, width = student.shape[2:]
    rows = []
    for s, t in zip(student, teacher, strict=True):
        loss = ((s - t) ** 2).mean().item()
        weight, total = 1.0, 1.0
        for level in (4, 2, 1):
            if level < height:
                weight /= 2
                total += weight
                high, wide = height // level, width // level
                gaps = [
                    (s - t)[channel, i * high : (i + 1) * high, j * wide : (j + 1) * wide].mean().item() ** 2
                    for channel in range(len(s))
                    for i in range(level)
                    for j in range(level)
                ]
                loss += weight * sum(gaps) / len(gaps)
        rows.append(loss / total)
    return rows


@pytest.mark.parametrize("shape", [(3, 5, 8, 8), (2, 3, 4, 4), (2, 7, 2, 4), (3, 2, 1, 1)])
def test_equal_to_a_naive_sum(shape: tuple[int, ...]) -> None:
    laws.equals_naive(review, naive, *laws.drawn(*shape))


@given(st.integers(0, 10**6))
def test_zero_for_equals_and_never_below(seed: int) -> None:
    student, teacher = laws.drawn(2, 3, 5, 5, seed=seed)
    assert (review(student, teacher) >= 0).all()
    assert not review(teacher, teacher).any()


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(review, *laws.drawn(3, 4, 5, 5))
    laws.ignores_the_order_of_rows(review, *laws.drawn(3, 4, 5, 5))


def test_deep_stages_reach_shallow_ones_and_not_the_other_way() -> None:
    stages = [torch.randn(2, wide, size, size, requires_grad=True) for wide, size in ((3, 8), (4, 4), (6, 2))]
    goals = [torch.randn(2, wide, size, size) for wide, size in ((5, 10), (7, 4), (9, 2))]
    term = Review(student=["a", "b", "c"], teacher=["d", "e", "f"], width=5)
    mine = {f"hidden.{path}": stage for path, stage in zip("abc", stages, strict=True)}
    theirs = {f"hidden.{path}": goal for path, goal in zip("def", goals, strict=True)}
    torch.manual_seed(0)
    term.size(mine, theirs, {})
    assert [fusion.enter.out_channels for fusion in term.fusions] == [5, 5, 5]
    fused, deeper = [], None
    for stage, goal, fuse in reversed(list(zip(stages, goals, term.fusions, strict=True))):
        found, deeper = fuse(stage, deeper, goal)
        fused.append(review(found, goal).mean())
    torch.testing.assert_close(term(mine, theirs, {}), sum(fused))
    first = torch.autograd.grad(fused[2], stages, retain_graph=True)
    assert all(gradient.any() for gradient in first)
    last = torch.autograd.grad(fused[0], stages, allow_unused=True)
    assert [gradient is None for gradient in last] == [True, True, False]


def test_it_learns_through_its_fusion() -> None:
    hidden.learns(Review(student=["a", "b"], teacher=["c", "d"]), *laws.drawn(2, 3, 4, 4, scale=1.0))


def test_extreme_states_give_finite_values_and_gradients() -> None:
    hidden.stays_finite(Review(student="a", teacher="b"), (2, 3, 4, 4))


def test_states_that_are_no_pictures_and_an_impossible_width_are_refused() -> None:
    with pytest.raises(UserError, match=r"must be \(B, C, H, W\)"):
        hidden.sized(Review(student="a", teacher="b"), *laws.drawn(3, 4, 5))
    with pytest.raises(UserError, match="width is 0"):
        Review(student="a", teacher="b", width=0)
