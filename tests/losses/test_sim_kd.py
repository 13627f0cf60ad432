import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.sim_kd import SimKd, sim_kd
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> list[list[float]]:
    """Row by row."""
    both = zip(student.tolist(), teacher.tolist(), strict=True)
    return [[sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s)] for s, t in both]


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_mean(shape: tuple[int, int]) -> None:
    laws.equals_naive(sim_kd, naive, *laws.drawn(*shape))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_zero_for_equals_and_only_the_student_learns(shape: tuple[int, ...]) -> None:
    student, teacher = laws.drawn(*shape)
    assert not sim_kd(teacher, teacher).any()
    laws.only_the_student_learns(sim_kd, student, teacher)
    laws.ignores_the_order_of_rows(sim_kd, student, teacher)


@pytest.mark.parametrize(
    ("student", "teacher"), [((3, 5), (3, 8)), ((3, 4, 5), (3, 4, 8)), ((3, 5, 2, 2), (3, 8, 4, 3))]
)
def test_the_projection_passes_a_narrow_middle(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    mine, theirs = laws.drawn(*student)[0], laws.drawn(*teacher)[0]
    term = hidden.sized(SimKd(student="a", teacher="b", factor=4), mine, theirs)
    (project,) = term.projections
    assert project(mine, theirs).shape == teacher
    assert project.map[0].weight.shape[:2] == (2, 5)


def test_pictures_see_the_neighbouring_points() -> None:
    picture = torch.zeros(1, 2, 5, 5, requires_grad=True)
    term = hidden.sized(SimKd(student="a", teacher="b", factor=1), picture, torch.zeros(1, 64, 5, 5))
    term.projections[0](picture, torch.zeros(1, 64, 5, 5))[0, :, 2, 2].sum().backward()
    assert picture.grad is not None
    reached = picture.grad[0].abs().sum(0) > 0
    assert reached[1:4, 1:4].all()
    assert reached.sum() == 9


def test_padding_does_not_count() -> None:
    hidden.leaves_out_padding(SimKd(student="a", teacher="b"))


def test_it_learns_through_its_projection() -> None:
    hidden.learns(SimKd(student="a", teacher="b"), *laws.drawn(5, 7, scale=1.0), steps=100)


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(SimKd(student="a", teacher="b"), shape)


def test_an_impossible_factor_and_other_places_are_refused() -> None:
    with pytest.raises(UserError, match="factor is 0"):
        SimKd(student="a", teacher="b", factor=0)
    with pytest.raises(UserError, match="tap other parts"):
        hidden.sized(SimKd(student="a", teacher="b"), torch.zeros(2, 3), torch.zeros(2, 4, 3))
