from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.structural import Structural, structural
from limbeck.testing import check_loss
from tests.losses.laws import (
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)

TAPPED = {"student": "body", "teacher": "trunk.body"}


def naive(student: Tensor, teacher: Tensor, cells: int = 2) -> list[float]:
    """Region by region; sides are multiples of cells."""

    def regions(maps: Tensor) -> list[Tensor]:
        high, wide = maps.shape[1] // cells, maps.shape[2] // cells
        corners = [(i * high, j * wide) for i in range(cells) for j in range(cells)]
        return [maps[:, y : y + high, x : x + wide].amax((1, 2)) for y, x in corners]

    rows = []
    for s, t in zip(student, teacher, strict=True):
        mine, theirs = regions(s), regions(t)
        errors = [
            (float(torch.cosine_similarity(mine[i], mine[j], 0) - torch.cosine_similarity(theirs[i], theirs[j], 0)))
            ** 2
            for i in range(cells**2)
            for j in range(cells**2)
        ]
        rows.append(sum(errors) / len(errors))
    return rows


@pytest.mark.parametrize(("shape", "cells"), [((3, 5, 2, 4), 2), ((2, 3, 6, 6), 3), ((1, 41, 4, 4), 2)])
def test_equal_to_a_sum_over_pairs_of_regions(shape: tuple[int, ...], cells: int) -> None:
    equals_naive(partial(structural, cells=cells), partial(naive, cells=cells), *drawn(*shape))


def test_neither_width_nor_size_nor_scale_need_agree() -> None:
    teacher, _ = drawn(2, 3, 4, 4)
    larger = 5 * teacher.repeat_interleave(2, 2).repeat_interleave(3, 3)
    assert structural(torch.cat([larger, larger], 1), teacher).tolist() == pytest.approx([0.0] * 2, abs=1e-6)


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(structural, *drawn(3, 2, 4, 4))
    ignores_the_order_of_rows(structural, *drawn(6, 2, 4, 4))


def test_extremes_and_empty_maps_stay_finite() -> None:
    stays_finite(lambda s, t: structural(s[:, None, None], t[:, None, None]), ruled_out=False)
    assert torch.isfinite(gradient(structural, torch.zeros(2, 3, 4, 4), drawn(2, 3, 4, 4)[0])).all()


def test_the_term_adds_up_its_pairs_and_keeps_the_contract() -> None:
    student, teacher = drawn(2, 3, 4, 4)
    said = {"hidden.body": student}, {"hidden.trunk.body": teacher}
    assert Structural(**TAPPED)(*said, {}).item() == pytest.approx(sum(naive(student, teacher)) / 2, rel=1e-4)
    check_loss(Structural(**TAPPED))


def test_what_is_no_picture_and_no_region_is_refused() -> None:
    with pytest.raises(UserError, match=r"both must be \(B, C, H, W\)"):
        Structural(**TAPPED).size({"hidden.body": torch.zeros(2, 3)}, {"hidden.trunk.body": torch.zeros(2, 3)}, {})
    with pytest.raises(UserError, match="cells is 0"):
        Structural(**TAPPED, cells=0)
