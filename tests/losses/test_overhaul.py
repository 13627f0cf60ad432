import pytest
import torch
from torch import Tensor

from limbeck.losses.overhaul import Overhaul, margins, overhaul
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor, margin: Tensor) -> list[float]:
    """Row by row, number by number."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        loss = 0.0
        for mine, theirs, least in zip(s, t, margin.tolist(), strict=True):
            wanted = max(theirs, least)
            loss += 0.0 if mine <= wanted <= 0 else (mine - wanted) ** 2
        rows.append(loss)
    return rows


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(overhaul, naive, *laws.drawn(*shape), -torch.linspace(0.1, 2.0, shape[1]))


def test_what_the_relu_hides_of_both_is_not_learnt() -> None:
    teacher, margin = torch.tensor([[-5.0, -5.0, 2.0]]), torch.full((3,), -1.0)
    student = torch.tensor([[-3.0, -0.5, -3.0]])
    gradient = laws.gradient(lambda s: overhaul(s, teacher, margin), student)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 1.0, -10.0]]))


def test_zero_for_equals_and_for_all_that_is_hidden_deeper() -> None:
    teacher, margin = laws.drawn(3, 5)[0], torch.full((5,), -0.5)
    assert not overhaul(torch.maximum(teacher, margin), teacher, margin).any()
    assert not overhaul(teacher.where(teacher > 0, -9.0), teacher, margin).any()


def test_pictures_have_a_margin_a_channel() -> None:
    student, teacher = laws.drawn(2, 3, 4, 4)
    margin = torch.tensor([-0.1, -1.0, -3.0])
    flat = [x.permute(0, 2, 3, 1).flatten(1) for x in (student, teacher)]
    torch.testing.assert_close(overhaul(student, teacher, margin), overhaul(*flat, margin.repeat(16)))


@pytest.mark.parametrize("mean", [-2.0, 0.0, 1.5])
def test_a_margin_is_the_mean_of_what_is_below_zero(mean: float) -> None:
    states = mean + 2 * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(margins(states), states[states < 0].mean().view(1), rtol=0.01, atol=0.0)


def test_a_width_that_is_hardly_ever_below_zero_has_a_low_margin() -> None:
    far = margins(torch.tensor([[9.0, 4.0, -4.0], [11.0, 4.0, -4.0]]))
    torch.testing.assert_close(far, torch.tensor([-3.0, -3e-6, -4.0]))


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    margin = torch.full((5,), -0.5)
    laws.only_the_student_learns(overhaul, *laws.drawn(3, 5), margin)
    laws.ignores_the_order_of_rows(lambda s, t: overhaul(s, t, margin), *laws.drawn(3, 5))


def test_margins_are_of_the_dry_batch_and_each_stage_counts_half_of_the_next() -> None:
    student, teacher = laws.drawn(4, 5)
    term = hidden.sized(Overhaul(student=["a", "b"], teacher=["c", "d"]), student, teacher)
    torch.testing.assert_close(term.state_dict()["margin1"], margins(teacher))
    first, last = (
        overhaul(project(student, 2 * teacher), 2 * teacher, margins(teacher)).mean() for project in term.projections
    )
    torch.testing.assert_close(hidden.value(term, student, 2 * teacher), first / 2 + last)


def test_it_learns_through_its_projection() -> None:
    hidden.learns(Overhaul(student="a", teacher="b"), *laws.drawn(5, 7, scale=1.0))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(Overhaul(student="a", teacher="b"), shape)
