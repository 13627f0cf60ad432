import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.losses.catalogue_cross_entropy import CatalogueCrossEntropy

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def catalogue_cross_entropy(student: Tensor, targets: Tensor) -> Tensor:
    """The term's mean."""
    return CatalogueCrossEntropy()({"scores": student}, {}, {"targets": targets})


def naive(student: Tensor, targets: Tensor) -> float:
    """Row by row, target by target, in float64."""
    rows = []
    for scores, wanted in zip(student.double().tolist(), targets.tolist(), strict=True):
        mass = math.log(math.fsum(math.exp(s) for s in scores))
        losses = [mass - scores[i] for i in wanted if i >= 0]
        if losses:
            rows.append(math.fsum(losses) / len(losses))
    return math.fsum(rows) / len(rows) if rows else 0.0


def drawn(rows: int = 41, items: int = 401, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, items, (rows, 5), generator=generator)
    count = torch.randint(0, 6, (rows, 1), generator=generator)
    return 3 * torch.randn(rows, items, generator=generator), targets.where(torch.arange(5) < count, -1)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equal_to_a_naive_sum(dtype: torch.dtype) -> None:
    student, targets = drawn()
    assert (targets < 0).all(1).any()  # some rows have none
    found = catalogue_cross_entropy(student.to(dtype), targets).item()
    assert found == pytest.approx(naive(student, targets), rel=TOLERANCE[dtype])
    assert found == pytest.approx(naive(student.to(dtype), targets), rel=1e-5)


def test_the_gradient_is_the_softmax_less_the_shares_of_the_targets() -> None:
    student = torch.randn(2, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(catalogue_cross_entropy(student, torch.tensor([[0, 3], [-1, -1]])), student)
    wanted = torch.softmax(student[0].detach(), 0) - torch.tensor([0.5, 0.0, 0.0, 0.5])
    torch.testing.assert_close(gradient, torch.stack([wanted, torch.zeros(4)]))


def test_without_any_target_the_loss_is_0_and_so_is_the_gradient() -> None:
    student = torch.randn(3, 4, requires_grad=True)
    loss = catalogue_cross_entropy(student, torch.full((3, 2), -1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert not gradient.any()


@given(st.permutations(range(6)), st.permutations(range(5)))
def test_neither_the_order_of_rows_nor_that_of_targets_matters(rows: list[int], places: list[int]) -> None:
    student, targets = drawn(6, 9)
    whole = catalogue_cross_entropy(student, targets).item()
    assert catalogue_cross_entropy(student[rows], targets[rows][:, places]).item() == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_extreme_scores_give_finite_values_and_gradients(dtype: torch.dtype) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    loss = catalogue_cross_entropy(student, torch.tensor([[1, 2], [-1, -1]]))
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_the_term_needs_no_teacher_and_offers_multi_hot_targets() -> None:
    assert not CatalogueCrossEntropy.needs_teacher
    batch = {"targets": torch.tensor([[1, 3], [0, -1], [-1, -1]]), "outputs": torch.tensor([4, 4, 4])}
    soft = CatalogueCrossEntropy().target({}, batch)
    assert soft is not None
    assert soft.tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
