import math

import pytest
import torch
from torch import Tensor

from limbeck.losses.variational_information import VariationalInformation, variational_information
from tests.losses import hidden, laws


def naive(mean: Tensor, teacher: Tensor, variance: Tensor) -> list[list[float]]:
    """Row by row, place by place: the normal density's own logarithm, less its constant."""
    found = []
    for m, t in zip(mean.tolist(), teacher.tolist(), strict=True):
        places = []
        for at, wanted in zip(m, t, strict=True):
            logs = [
                math.log(math.exp(-((b - a) ** 2) / (2 * v)) / math.sqrt(v))
                for a, b, v in zip(at, wanted, variance.tolist(), strict=True)
            ]
            places.append(-sum(logs) / len(logs))
        found.append(places)
    return found


@pytest.mark.parametrize("width", [5, 41])
def test_equal_to_a_naive_likelihood(width: int) -> None:
    mean, teacher = laws.drawn(3, 4, width, scale=1.0)
    laws.equals_naive(variational_information, naive, mean, teacher, torch.linspace(0.5, 3.0, width))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_only_the_student_learns_and_rows_may_stand_in_any_order(shape: tuple[int, ...]) -> None:
    student, teacher = laws.drawn(*shape)
    variance = torch.ones(shape[1] if len(shape) == 4 else shape[-1])
    laws.only_the_student_learns(lambda s, t: variational_information(s, t, variance), student, teacher)
    laws.ignores_the_order_of_rows(lambda s, t: variational_information(s, t, variance), student, teacher)


def test_the_best_variance_is_the_mean_of_the_squared_error() -> None:
    mean, teacher = laws.drawn(400, 1, 1, scale=1.0)
    best = (mean - teacher).square().mean()
    losses = [variational_information(mean, teacher, best.view(1) * factor).mean() for factor in (0.8, 1.0, 1.25)]
    assert losses[1] == min(losses)


def test_variances_start_at_5_and_stay_above_0() -> None:
    term = hidden.sized(VariationalInformation(student="a", teacher="b"), *laws.drawn(3, 5))
    (scale,) = term.scales
    torch.testing.assert_close(torch.nn.functional.softplus(scale) + 1e-5, torch.full((5,), 5.0))
    with torch.no_grad():
        scale.fill_(-200)
    assert torch.isfinite(hidden.value(term, *laws.drawn(3, 5)))


def test_it_learns_through_its_own_network() -> None:
    hidden.learns(VariationalInformation(student="a", teacher="b"), *laws.drawn(5, 7), steps=100)


def test_padding_does_not_count() -> None:
    hidden.leaves_out_padding(VariationalInformation(student="a", teacher="b"))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(VariationalInformation(student="a", teacher="b"), shape)
