from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.channel_wise import ChannelWise, channel_wise
from limbeck.testing import check_loss
from tests.losses.laws import (
    change_of_gradient,
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)
from tests.losses.naive import relative_entropy, softmax

TAPPED = {"student": "head", "teacher": "decoder.head"}


def naive(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> list[float]:
    """Channel by channel."""
    rows = []
    for s, t in zip(student, teacher, strict=True):
        both = [
            (softmax(b.flatten(), temperature), softmax(a.flatten(), temperature)) for a, b in zip(s, t, strict=True)
        ]
        rows.append(temperature**2 * sum(relative_entropy(p, q) for p, q in both) / len(both))
    return rows


@pytest.mark.parametrize("shape", [(3, 5, 2, 3), (2, 3, 5, 5), (1, 1, 1, 41)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_to_a_sum_over_channels(shape: tuple[int, ...], temperature: float) -> None:
    equals_naive(
        partial(channel_wise, temperature=temperature), partial(naive, temperature=temperature), *drawn(*shape)
    )


@given(st.integers(0, 10**6), st.floats(-50, 50))
def test_zero_for_maps_that_differ_by_a_level(seed: int, level: float) -> None:
    maps, _ = drawn(2, 3, 4, 4, seed=seed)
    assert channel_wise(maps + level, maps).tolist() == pytest.approx([0.0] * 2, abs=1e-4)
    assert (channel_wise(maps.flip(3), maps) >= -1e-6).all()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(channel_wise, *drawn(3, 2, 4, 4))
    ignores_the_order_of_rows(channel_wise, *drawn(6, 2, 3, 3))


def test_extremes_stay_finite() -> None:
    stays_finite(lambda s, t: channel_wise(s[:, None, None], t[:, None, None]))


def test_the_gradient_keeps_its_size_at_any_temperature() -> None:
    def at(temperature: float) -> partial[Tensor]:
        return partial(channel_wise, temperature=temperature)

    found = change_of_gradient(lambda t: lambda s, o: at(t)(s[:, None, None], o[:, None, None]))
    assert 0.2 < found < 5


def test_maps_of_as_many_channels_are_compared_as_they_are_and_others_are_mapped() -> None:
    term = ChannelWise(**TAPPED)
    student, teacher = drawn(2, 3, 4, 4)
    said = {"hidden.head": student}, {"hidden.decoder.head": teacher}
    term.size(*said, {})
    assert not list(term.parameters())
    assert term(*said, {}).item() == pytest.approx(sum(naive(student, teacher)) / 2, rel=1e-4)
    wide = ChannelWise(**TAPPED)
    small, large = {"hidden.head": student[..., :2, :2]}, {"hidden.decoder.head": teacher.repeat(1, 2, 1, 1)}
    wide.size(small, large, {})
    assert list(wide.parameters())
    assert torch.isfinite(wide(small, large, {}))


def test_it_keeps_the_contract_and_pictures_are_asked_for() -> None:
    check_loss(ChannelWise(**TAPPED))
    with pytest.raises(UserError, match=r"both must be \(B, C, H, W\)"):
        ChannelWise(**TAPPED).size({"hidden.head": torch.zeros(2, 3)}, {"hidden.decoder.head": torch.zeros(2, 3)}, {})
    with pytest.raises(UserError, match="temperature is 0"):
        ChannelWise(**TAPPED, temperature=0.0)


def test_equals_have_no_gradient() -> None:
    maps, _ = drawn(2, 3, 4, 4)
    assert gradient(channel_wise, maps, maps).abs().max() < 1e-6
