from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.several_kl import SeveralKl, confidence, several_kl
from limbeck.testing import check_loss
from tests.losses.laws import (
    SHAPES,
    change_of_gradient,
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)
from tests.losses.naive import relative_entropy, softmax


def naive(student: Tensor, teachers: Tensor, weight: Tensor, temperature: float = 4.0) -> list[float]:
    """Teacher by teacher."""
    rows = []
    for s, each, w in zip(student, teachers, weight.tolist(), strict=True):
        losses = [relative_entropy(softmax(t, temperature), softmax(s, temperature)) for t in each]
        rows.append(temperature**2 * sum(a * b / sum(w) for a, b in zip(w, losses, strict=True)))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_to_a_sum_over_teachers(shape: tuple[int, int], temperature: float) -> None:
    student, *teachers = drawn(*shape, count=4)
    weight = torch.tensor([[1.0, 2.0, 0.5]]).expand(shape[0], 3)
    found, wanted = (partial(f, temperature=temperature) for f in (several_kl, naive))
    equals_naive(found, wanted, student, torch.stack(teachers, 1), weight)


def test_its_gradient_is_that_of_one_divergence_from_the_weighed_mean_of_probabilities() -> None:
    student, *teachers = drawn(3, 5, count=3)
    weight = torch.tensor([[0.25, 0.75]]).expand(3, 2)
    mean = 0.25 * torch.softmax(teachers[0], 1) + 0.75 * torch.softmax(teachers[1], 1)
    found = gradient(partial(several_kl, temperature=1.0), student, torch.stack(teachers, 1), weight)
    torch.testing.assert_close(found, torch.softmax(student, 1) - mean, rtol=1e-4, atol=1e-6)


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    student, *teachers = drawn(6, 5, count=3)
    only_the_student_learns(several_kl, student, torch.stack(teachers, 1), torch.ones(6, 2))
    ignores_the_order_of_rows(several_kl, student, torch.stack(teachers, 1), torch.rand(6, 2))


def test_extremes_stay_finite() -> None:
    stays_finite(lambda s, t: several_kl(s, torch.stack([t, t], 1), torch.ones(len(t), 2)))


def test_the_gradient_keeps_its_size_at_any_temperature() -> None:
    found = change_of_gradient(
        lambda t: lambda a, b: several_kl(a, torch.stack([b, -b], 1), torch.ones(len(b), 2), temperature=t)
    )
    assert 0.2 < found < 5


def test_a_teacher_that_errs_less_on_the_label_counts_for_more() -> None:
    right, wrong, unsure = [9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]
    teachers = torch.tensor([[right, wrong, unsure], [right, wrong, unsure]])
    found = confidence(teachers, torch.tensor([0, -1]))
    assert found[0, 0] > found[0, 2] > found[0, 1]
    assert found.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert found[1].tolist() == pytest.approx([1 / 3] * 3)
    assert confidence(teachers[:, :1], torch.tensor([0, -1])).tolist() == [[1.0], [1.0]]


def test_weights_are_fixed_by_confidence_or_as_the_ensemble_has_them() -> None:
    student, first, second = drawn(3, 5, count=3)
    teachers = torch.stack([first, second], 1)
    label, share = torch.tensor([0, 4, -1]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7]])
    said: Any = {"logits": student}, {"logits.0": first, "logits.1": second, "share": share}, {"label": label}
    equal = SeveralKl()(*said).item()
    assert equal == pytest.approx(sum(naive(student, teachers, torch.ones(3, 2))) / 3, rel=1e-4)
    fixed = SeveralKl(weights=(1.0, 3.0))(*said).item()
    assert fixed == pytest.approx(sum(naive(student, teachers, torch.tensor([[1.0, 3.0]] * 3))) / 3, rel=1e-4)
    sure = SeveralKl(by="confidence")(*said).item()
    assert sure == pytest.approx(sum(naive(student, teachers, confidence(teachers, label))) / 3, rel=1e-4)
    told = SeveralKl(by="ensemble")(*said).item()
    assert told == pytest.approx(sum(naive(student, teachers, share)) / 3, rel=1e-4)
    check_loss(SeveralKl())
    check_loss(SeveralKl(by="confidence"))


def test_missing_teachers_and_weights_that_do_not_fit_are_refused() -> None:
    student, first, second = drawn(3, 5, count=3)
    with pytest.raises(UserError, match=r"reads 'logits\.0'"):
        SeveralKl()({"logits": student}, {"logits": first}, {})
    with pytest.raises(UserError, match="3 weights for 2 teachers"):
        SeveralKl(weights=(1.0, 1.0, 1.0))({"logits": student}, {"logits.0": first, "logits.1": second}, {})
    with pytest.raises(UserError, match="one is above 0"):
        SeveralKl(weights=(0.0, 0.0))
    with pytest.raises(UserError, match="weights go with fixed"):
        SeveralKl(by="ensemble", weights=(1.0, 1.0))
    with pytest.raises(UserError, match="by is 'luck'"):
        SeveralKl(by="luck")  # type: ignore[arg-type]
