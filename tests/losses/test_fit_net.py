import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.fit_net import FitNet, fit_net
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> list[list[float]]:
    """Row by row, place by place."""
    if student.ndim == 2:
        student, teacher = student.unsqueeze(1), teacher.unsqueeze(1)
    both = zip(student.tolist(), teacher.tolist(), strict=True)
    return [
        [sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s) for s, t in zip(mine, theirs, strict=True)]
        for mine, theirs in both
    ]


@pytest.mark.parametrize("shape", [(3, 5), (3, 401), (3, 4, 7)])
def test_equal_to_a_naive_mean(shape: tuple[int, ...]) -> None:
    laws.equals_naive(fit_net, naive, *laws.drawn(*shape))


def test_pictures_are_many_places() -> None:
    student, teacher = laws.drawn(2, 3, 4, 5)
    found = fit_net(student, teacher)
    assert found.shape == (2, 20)
    torch.testing.assert_close(found[1, 7], (student - teacher)[1, :, 1, 2].square().mean())


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_zero_for_equals_and_only_the_student_learns(shape: tuple[int, ...]) -> None:
    student, teacher = laws.drawn(*shape)
    assert not fit_net(teacher, teacher).any()
    laws.only_the_student_learns(fit_net, student, teacher)
    laws.ignores_the_order_of_rows(fit_net, student, teacher)


def test_padding_does_not_count() -> None:
    hidden.leaves_out_padding(FitNet(student="a", teacher="b"))


def test_pairs_of_parts_are_added_up() -> None:
    term = FitNet(student=["a", "b"], teacher=["c", "d"])
    student, teacher = laws.drawn(3, 5)
    hidden.sized(term, student, teacher)
    parts = [fit_net(project(student, teacher), teacher).mean() for project in term.projections]
    torch.testing.assert_close(hidden.value(term, student, teacher), sum(parts))


def test_it_learns_through_its_projection() -> None:
    hidden.learns(FitNet(student="a", teacher="b"), *laws.drawn(5, 7, scale=1.0))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(FitNet(student="a", teacher="b"), shape)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (2, 3, 2, 2)])
def test_the_slope_is_that_of_the_value(shape: tuple[int, ...]) -> None:
    laws.slope_is_that_of_the_value(fit_net, *laws.drawn(*shape))


def test_states_may_be_compared_as_they_are() -> None:
    mine, theirs = laws.drawn(4, 6)
    term = hidden.sized(FitNet(student="a", teacher="b", project=False), mine, theirs)
    assert not list(term.parameters())
    value = term({"hidden.a": mine}, {"hidden.b": theirs}, {})
    torch.testing.assert_close(value, (mine - theirs).square().mean())
    with pytest.raises(UserError, match="width 6 and the teacher's 5"):
        hidden.sized(FitNet(student="a", teacher="b", project=False), mine, theirs[:, :5])
