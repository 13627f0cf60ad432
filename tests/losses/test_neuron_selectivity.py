import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.neuron_selectivity import NeuronSelectivity, neuron_selectivity
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    """Channel by channel."""

    def channels(states: list[list[float]]) -> list[list[float]]:
        turned = [list(channel) for channel in zip(*states, strict=True)]
        return [[x / math.hypot(*channel) for x in channel] for channel in turned]

    def kernel(a: list[list[float]], b: list[list[float]]) -> float:
        found = [sum(p * q for p, q in zip(x, y, strict=True)) ** 2 for x in a for y in b]
        return sum(found) / len(found)

    both = [(channels(s), channels(t)) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    return [kernel(s, s) + kernel(t, t) - 2 * kernel(s, t) for s, t in both]


@pytest.mark.parametrize("places", [2, 5, 41])
def test_equal_to_a_naive_sum(places: int) -> None:
    student, teacher = laws.drawn(3, places, 7)[0], laws.drawn(3, places, 4, seed=1)[0]
    laws.equals_naive(neuron_selectivity, naive, student, teacher, rounding=0.1)


def test_the_larger_picture_is_averaged_down() -> None:
    small, large = laws.drawn(2, 3, 2, 2)[0], laws.drawn(2, 5, 4, 4, seed=1)[0]
    mean = large.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
    torch.testing.assert_close(neuron_selectivity(small, large), neuron_selectivity(small, mean))


@given(st.integers(0, 10**6), st.floats(0.01, 100.0))
def test_never_below_zero_and_blind_to_the_order_and_the_size_of_channels(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(3, 4, 7, seed=seed)
    found = neuron_selectivity(student, teacher)
    assert (found >= -1e-6).all()
    torch.testing.assert_close(neuron_selectivity(factor * student.flip(2), teacher), found, rtol=1e-3, atol=1e-5)
    assert neuron_selectivity(-factor * teacher.roll(2, 2), teacher).abs().max() < 1e-5


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    for shape in ((3, 4, 7), (2, 3, 4, 4)):
        laws.only_the_student_learns(neuron_selectivity, *laws.drawn(*shape))
        laws.ignores_the_order_of_rows(neuron_selectivity, *laws.drawn(*shape))


@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 3, 4, 4)])
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(NeuronSelectivity(student="a", teacher="b"), shape)


def test_it_brings_the_channels_together() -> None:
    hidden.learns(NeuronSelectivity(student="a", teacher="b"), *laws.drawn(3, 4, 7))


def test_states_without_places_are_refused() -> None:
    with pytest.raises(UserError, match="no places to compare"):
        hidden.sized(NeuronSelectivity(student="a", teacher="b"), *laws.drawn(3, 5))
