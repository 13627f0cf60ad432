import cmath
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.multi_scale import MultiScale, multi_scale
from tests.losses import laws
from tests.losses.naive import relative_entropy, softmax


def amplitudes(series: list[float]) -> Tensor:
    def at(frequency: int) -> complex:
        return sum(x * cmath.exp(-2j * math.pi * frequency * h / len(series)) for h, x in enumerate(series))

    return torch.tensor([abs(at(k)) for k in range(1, len(series) // 2 + 1)], dtype=torch.float64)


def naive_series(mine: list[float], theirs: list[float], halvings: int) -> float:
    rhythm = 2.0 * 0.25 * relative_entropy(softmax(amplitudes(theirs), 0.5), softmax(amplitudes(mine), 0.5))
    errors = []
    while len(errors) <= halvings and (not errors or len(mine) > 0):
        errors.append(sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True)) / len(mine))
        mine, theirs = ([(x[i] + x[i + 1]) / 2 for i in range(0, len(x) - 1, 2)] for x in (mine, theirs))
    return sum(errors) / len(errors) + rhythm


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    losses = []
    for mine, theirs in zip(student, teacher, strict=True):
        pairs = zip(mine.reshape(len(mine), -1).T.tolist(), theirs.reshape(len(theirs), -1).T.tolist(), strict=True)
        each = [naive_series(s, t, 3) for s, t in pairs]
        losses.append(sum(each) / len(each))
    return losses


def loss(student: Tensor, teacher: Tensor) -> Tensor:
    return multi_scale(student, teacher, frequency_weight=2.0)


@pytest.mark.parametrize("shape", [(3, 5), (3, 41), (2, 24, 3), (3, 2)])
def test_equal_to_a_naive_sum(shape: tuple[int, ...]) -> None:
    laws.equals_naive(loss, naive, *laws.drawn(*shape, scale=1.0), rounding=0.1)


@given(st.integers(0, 10**6), st.integers(1, 9))
def test_never_below_zero_and_zero_at_equality(seed: int, steps: int) -> None:
    student, teacher = laws.drawn(3, steps, seed=seed)
    assert (multi_scale(student, teacher) > 0).all()
    assert not multi_scale(teacher, teacher).any()


def test_a_trend_that_is_missed_costs_more_than_noise_of_the_same_size() -> None:
    teacher = torch.zeros(1, 16)
    noise, shift = torch.tensor([[1.0, -1.0] * 8]), torch.ones(1, 16)
    by_course = [multi_scale(x, teacher, frequency_weight=0.0).item() for x in (noise, shift)]
    assert by_course == [0.25, 1.0]
    by_rhythm = [
        (multi_scale(x, teacher) - multi_scale(x, teacher, frequency_weight=0.0)).item() for x in (noise, shift)
    ]
    assert by_rhythm[0] > 0.1
    assert by_rhythm[1] == pytest.approx(0.0, abs=1e-6)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(multi_scale, *laws.drawn(3, 8))
    laws.ignores_the_order_of_rows(multi_scale, *laws.drawn(3, 8))


def test_flat_and_extreme_series_give_finite_values_and_gradients() -> None:
    laws.stays_finite(multi_scale, ruled_out=False)


@pytest.mark.parametrize("name", ["halvings", "frequency_weight", "temperature"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is -1"):
        MultiScale(**{name: -1})


def test_other_horizons_are_refused() -> None:
    with pytest.raises(UserError, match=r"have shape \(2, 3\), the teacher's \(2, 4\)"):
        MultiScale()({"values": torch.zeros(2, 3)}, {"values": torch.zeros(2, 4)}, {})
