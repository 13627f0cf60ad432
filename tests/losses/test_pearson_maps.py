import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.pearson_maps import PearsonMaps, pearson_maps
from limbeck.testing import check_loss
from tests.losses.laws import (
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)

TAPPED = {"student": "neck", "teacher": "fpn.neck"}


def naive(student: Tensor, teacher: Tensor) -> float:
    """Channel by channel, by NumPy's correlation."""
    channels = range(student.shape[1])
    return sum(1 - np.corrcoef(student[:, c].flatten(), teacher[:, c].flatten())[0, 1] for c in channels) / len(
        channels
    )


@pytest.mark.parametrize("shape", [(3, 5, 2, 3), (2, 3, 5, 5), (1, 1, 1, 41)])
def test_equal_to_the_mean_over_channels_of_correlations(shape: tuple[int, ...]) -> None:
    equals_naive(pearson_maps, naive, *drawn(*shape))


def test_it_is_half_the_squared_error_of_standardised_maps() -> None:
    student, teacher = drawn(3, 2, 4, 5)
    standard = [(x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True) for x in (student, teacher)]
    count = 3 * 4 * 5
    half = (standard[0] - standard[1]).square().mean().item() / 2
    assert pearson_maps(student, teacher).item() == pytest.approx(half * count / (count - 1), rel=1e-5)


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-10, 10))
def test_scale_and_level_do_not_matter_and_turned_maps_lose_2(seed: int, scale: float, level: float) -> None:
    maps, _ = drawn(2, 3, 4, 4, seed=seed)
    assert pearson_maps(scale * maps + level, maps).item() == pytest.approx(0.0, abs=1e-4)
    assert pearson_maps(level - scale * maps, maps).item() == pytest.approx(2.0, abs=1e-4)


def test_a_channel_that_does_not_vary_is_not_correlated_and_harms_nobody() -> None:
    student, teacher = torch.ones(2, 1, 3, 3), drawn(2, 1, 3, 3)[0]
    assert pearson_maps(student, teacher).item() == 1.0
    assert torch.isfinite(gradient(pearson_maps, student, teacher)).all()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(pearson_maps, *drawn(3, 2, 4, 4))
    ignores_the_order_of_rows(pearson_maps, *drawn(6, 2, 3, 3))


def test_extremes_stay_finite() -> None:
    stays_finite(lambda s, t: pearson_maps(s[:, None, None], t[:, None, None]), ruled_out=False)


def test_the_term_adds_up_stages_of_a_pyramid() -> None:
    student, teacher = drawn(2, 3, 4, 4)
    term = PearsonMaps(student=["a", "b"], teacher=["c", "d"])
    said = {"hidden.a": student, "hidden.b": teacher}, {"hidden.c": teacher, "hidden.d": student}
    term.size(*said, {})
    assert term(*said, {}).item() == pytest.approx(2 * naive(student, teacher), rel=1e-4)


def test_it_keeps_the_contract_and_pictures_are_asked_for() -> None:
    check_loss(PearsonMaps(**TAPPED))
    with pytest.raises(UserError, match=r"both must be \(B, C, H, W\)"):
        PearsonMaps(**TAPPED).size({"hidden.neck": torch.zeros(2, 3)}, {"hidden.fpn.neck": torch.zeros(2, 3)}, {})
