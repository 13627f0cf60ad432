from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.pixel_kl import PixelKl, pixel_kl
from tests.losses.laws import (
    change_of_gradient,
    drawn,
    equals_naive,
    ignores_the_order_of_rows,
    only_the_student_learns,
    slope_is_that_of_the_value,
    stays_finite,
)
from tests.losses.naive import relative_entropy, softmax


def naive(student: Tensor, teacher: Tensor, mask: Tensor | None = None, temperature: float = 1.0) -> list[float]:
    """Pixel by pixel."""
    rows = []
    for row, (s, t) in enumerate(zip(student, teacher, strict=True)):
        places = [(y, x) for y in range(s.shape[1]) for x in range(s.shape[2]) if mask is None or mask[row, y, x] > 0]
        both = [(softmax(t[:, y, x], temperature), softmax(s[:, y, x], temperature)) for y, x in places]
        rows.append(temperature**2 * sum(relative_entropy(p, q) for p, q in both) / max(1, len(both)))
    return rows


@pytest.mark.parametrize("shape", [(3, 5, 2, 3), (2, 41, 1, 1), (2, 3, 5, 5)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_to_a_sum_over_pixels(shape: tuple[int, ...], temperature: float) -> None:
    found, wanted = (partial(f, temperature=temperature) for f in (pixel_kl, naive))
    equals_naive(found, wanted, *drawn(*shape))
    mask = torch.arange(shape[0] * shape[2] * shape[3]).reshape(shape[0], *shape[2:]) % 3 > 1
    equals_naive(found, wanted, *drawn(*shape), mask)


@given(st.integers(0, 10**6))
def test_never_negative_and_zero_for_equals(seed: int) -> None:
    student, teacher = drawn(2, 3, 2, 2, seed=seed)
    assert (pixel_kl(student, teacher) >= -1e-6).all()
    assert pixel_kl(teacher, teacher).tolist() == [0.0, 0.0]


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(pixel_kl, *drawn(3, 4, 2, 2))
    ignores_the_order_of_rows(pixel_kl, *drawn(6, 4, 3, 3))


def test_extremes_stay_finite() -> None:
    stays_finite(lambda s, t: pixel_kl(s[..., None, None], t[..., None, None]))


def test_the_gradient_keeps_its_size_at_any_temperature() -> None:
    found = change_of_gradient(lambda t: lambda a, b: pixel_kl(a[..., None, None], b[..., None, None], temperature=t))
    assert 0.2 < found < 5


def test_a_picture_of_which_no_pixel_counts_does_not_count() -> None:
    student, teacher = drawn(2, 3, 2, 2)
    mask = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]]])
    found = PixelKl()({"pixels": student}, {"pixels": teacher}, {"mask": mask})
    assert found.item() == pytest.approx(naive(student, teacher, mask)[0], rel=1e-5)
    with pytest.raises(UserError, match="temperature is -1"):
        PixelKl(temperature=-1.0)


def test_the_slope_is_that_of_the_value() -> None:
    slope_is_that_of_the_value(lambda s, t: pixel_kl(s, t, temperature=2.0), *drawn(2, 3, 2, 2))
