from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.localisation import Localisation, localisation
from tests.losses.laws import (
    change_of_gradient,
    drawn,
    equals_naive,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)
from tests.losses.naive import relative_entropy, softmax


def naive(student: Tensor, teacher: Tensor, counts: Tensor | None = None, temperature: float = 10.0) -> list[float]:
    """Edge by edge."""
    rows = []
    for row in range(len(student)):
        boxes = [n for n in range(student.shape[1]) if counts is None or counts[row, n] > 0]
        both = [
            (softmax(teacher[row, n, edge], temperature), softmax(student[row, n, edge], temperature))
            for n in boxes
            for edge in range(4)
        ]
        rows.append(temperature**2 * sum(relative_entropy(p, q) for p, q in both) / max(1, len(both)))
    return rows


@pytest.mark.parametrize("shape", [(3, 5, 4, 17), (2, 1, 4, 41)])
@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_equal_to_a_sum_over_edges(shape: tuple[int, ...], temperature: float) -> None:
    found, wanted = (partial(f, temperature=temperature) for f in (localisation, naive))
    equals_naive(found, wanted, *drawn(*shape))
    equals_naive(found, wanted, *drawn(*shape), torch.arange(shape[0] * shape[1]).reshape(shape[:2]) % 3 > 1)


def test_zero_for_equals_and_only_the_student_learns() -> None:
    student, teacher = drawn(3, 2, 4, 5)
    assert localisation(teacher, teacher).tolist() == [0.0] * 3
    only_the_student_learns(localisation, student, teacher)
    ignores_the_order_of_rows(localisation, student, teacher)


def test_extremes_stay_finite() -> None:
    stays_finite(lambda s, t: localisation(s[:, None, None].repeat(1, 1, 4, 1), t[:, None, None].repeat(1, 1, 4, 1)))


def test_the_gradient_keeps_its_size_at_any_temperature() -> None:
    found = change_of_gradient(lambda t: lambda a, b: localisation(a[:, None, None], b[:, None, None], temperature=t))
    assert 0.2 < found < 5


def test_a_picture_of_which_no_box_counts_does_not_count() -> None:
    student, teacher = drawn(2, 3, 4, 5)
    inside = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    found = Localisation()({"edges": student}, {"edges": teacher}, {"inside": inside})
    assert found.item() == pytest.approx(naive(student, teacher, inside)[0], rel=1e-5)
    whole = Localisation()({"edges": student}, {"edges": teacher}, {})
    assert whole.item() == pytest.approx(sum(naive(student, teacher)) / 2, rel=1e-5)
    with pytest.raises(UserError, match="temperature is 0"):
        Localisation(temperature=0.0)
