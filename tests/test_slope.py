from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from limbeck.slope import sloped, wide
from tests.losses import laws


def _half_squares(student: Tensor, scale: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    return scale * student.square().sum(1) / 2, lambda: scale.unsqueeze(1) * student


def test_a_loss_and_its_slope_are_one_step_of_autograd() -> None:
    student, scale = torch.randn(3, 4, 5), torch.rand(3, 5)
    laws.slope_is_that_of_the_value(sloped(_half_squares, axis=1), student, scale)


def test_no_gradient_reaches_what_stands_beside_the_student() -> None:
    student, scale = torch.randn(3, 4), torch.rand(3)
    laws.only_the_student_learns(sloped(lambda s, k: _half_squares(wide(s), k), axis=1), student, scale)
    assert not sloped(_half_squares, axis=1)(student, scale.requires_grad_()).requires_grad


def test_a_slope_is_worked_out_only_where_it_is_wanted() -> None:
    asked = []

    def losses(student: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        return student.sum(-1), lambda: asked.append(1) or torch.ones_like(student)  # type: ignore[func-returns-value]  # None, then the other

    student = torch.ones(2, 3)
    sloped(losses)(student)
    with torch.no_grad():
        sloped(losses)(student.requires_grad_())
    assert not asked
    sloped(losses)(student)
    assert asked == [1]


@pytest.mark.parametrize(
    ("given", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_numbers_are_of_single_precision_at_least(given: torch.dtype, kept: torch.dtype) -> None:
    assert wide(torch.ones(1, dtype=given)).dtype == kept
