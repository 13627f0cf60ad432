import math
from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.cross_head import CrossHead, cross_head
from tests.losses.laws import (
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)


def naive(student: Tensor, teacher: Tensor, counts: Tensor | None = None, focus: float = 1.0) -> list[float]:
    """Box by box, class by class."""
    rows = []
    for row in range(len(student)):
        boxes = [n for n in range(student.shape[1]) if counts is None or counts[row, n] > 0]
        total = 0.0
        for n in boxes:
            for z, t in zip(student[row, n].tolist(), teacher[row, n].tolist(), strict=True):
                q, p = 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(-t))
                total -= abs(q - p) ** focus * (p * math.log(q) + (1 - p) * math.log(1 - q))
        rows.append(total / max(1, len(boxes)))
    return rows


@pytest.mark.parametrize("shape", [(3, 5, 4), (2, 1, 41)])
@pytest.mark.parametrize("focus", [0.0, 1.0, 2.0])
def test_equal_to_a_sum_over_boxes_and_classes(shape: tuple[int, ...], focus: float) -> None:
    found, wanted = (partial(f, focus=focus) for f in (cross_head, naive))
    equals_naive(found, wanted, *drawn(*shape))
    equals_naive(found, wanted, *drawn(*shape), torch.arange(shape[0] * shape[1]).reshape(shape[:2]) % 3 > 1)


@pytest.mark.parametrize("focus", [0.5, 1.0, 2.0])
def test_nothing_is_lost_and_nothing_learnt_where_both_agree(focus: float) -> None:
    logits, _ = drawn(3, 2, 5)
    assert cross_head(logits, logits, focus=focus).abs().max() < 1e-5
    assert gradient(partial(cross_head, focus=focus), logits, logits).abs().max() < 1e-5


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(cross_head, *drawn(3, 2, 5))
    ignores_the_order_of_rows(cross_head, *drawn(6, 2, 5))


def test_extremes_stay_finite() -> None:
    stays_finite(lambda s, t: cross_head(s[:, None], t[:, None]))


def test_it_reads_the_crossed_logits_and_leaves_out_pictures_without_boxes() -> None:
    student, teacher = drawn(2, 3, 5)
    inside = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    found = CrossHead()({"crossed": student}, {"classes": teacher}, {"inside": inside})
    assert found.item() == pytest.approx(naive(student, teacher, inside)[0], rel=1e-4)
    own = CrossHead(crossed="classes")({"classes": student}, {"classes": teacher}, {})
    assert own.item() == pytest.approx(sum(naive(student, teacher)) / 2, rel=1e-4)
    with pytest.raises(UserError, match="focus is -1"):
        CrossHead(focus=-1.0)


@pytest.mark.parametrize("focus", [0.0, 0.5, 1.0, 2.0])
def test_its_gradient_is_that_of_its_formula(focus: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    wide = student.detach().double().requires_grad_()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(wide, teacher.double().sigmoid(), reduction="none")
    naive = ((wide.sigmoid() - teacher.double().sigmoid()).abs() ** focus * entropy).sum(2).mean()
    found, wanted = (
        torch.autograd.grad(x, z)[0]
        for x, z in ((cross_head(student, teacher, focus=focus).mean(), student), (naive, wide))
    )
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)
