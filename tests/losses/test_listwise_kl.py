import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.listwise_kl import ListwiseKl
from limbeck.losses.listwise_kl import listwise_kl as rows_of_listwise_kl
from limbeck.objective import Objective
from tests.losses import laws

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
B, N, L = 41, 401, 6


def listwise_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0, seen: Tensor | None = None) -> Tensor:
    """The mean over rows, as the term takes it."""
    return rows_of_listwise_kl(student, teacher, temperature=temperature, seen=seen).mean()


def naive(student: Tensor, teacher: Tensor, temperature: float, seen: Sequence[Sequence[int]]) -> Tensor:
    """Row by row over the items left, in float64; differentiable, so autograd gives the gradient too."""
    rows = []
    for s, t, gone in zip(student.double(), teacher.double(), seen, strict=True):
        left = [i for i in range(len(t)) if i not in gone and t[i] > -math.inf]
        if not left:
            rows.append(s.sum() * 0.0)
            continue
        p = torch.softmax(t[left] / temperature, 0)
        rows.append((p * (p.log() - torch.log_softmax(s[left], 0))).sum())
    return torch.stack(rows).mean()


def drawn(rows: int = B, items: int = N, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of a student and a teacher, and 0 to L positions a row that it has already."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, rows, items, generator=generator)
    seen = torch.stack([torch.randperm(items, generator=generator)[:L] for _ in range(rows)])
    count = torch.randint(0, L + 1, (rows, 1), generator=generator)
    return student, teacher, seen.where(torch.arange(L) < count, -1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_value_and_gradient_equal_a_naive_sum_and_its_autograd(dtype: torch.dtype, temperature: float) -> None:
    student, teacher, seen = drawn()
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    found = listwise_kl(student, teacher, temperature=temperature, seen=seen)
    wanted = naive(student, teacher, temperature, seen.tolist())
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    (ours,) = torch.autograd.grad(found, student)
    (theirs,) = torch.autograd.grad(wanted, student)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=TOLERANCE[dtype], atol=1e-7)


def test_the_gradient_follows_what_stands_above_it() -> None:
    student, teacher, seen = drawn(5, 7)
    student.requires_grad_()
    (once,) = torch.autograd.grad(listwise_kl(student, teacher, seen=seen[:, :2]), student)
    (scaled,) = torch.autograd.grad(-3.5 * listwise_kl(student, teacher, seen=seen[:, :2]), student)
    torch.testing.assert_close(scaled, -3.5 * once)


def test_only_the_teacher_is_softened_so_the_student_finds_its_own_scale() -> None:
    teacher = torch.tensor([[0.0, 3.0, 1.0]])
    assert listwise_kl(teacher / 0.1, teacher, temperature=0.1).item() == pytest.approx(0.0, abs=1e-5)
    assert listwise_kl(teacher / 10, teacher, temperature=10.0).item() == pytest.approx(0.0, abs=1e-6)


def test_items_a_row_has_get_no_gradient() -> None:
    student, teacher, seen = drawn(9, 11)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(listwise_kl(student, teacher, seen=seen), student)
    for row, gone in zip(gradient, seen.tolist(), strict=True):
        has = [i for i in gone if i >= 0]
        assert not row[has].any()
        assert row[[i for i in range(11) if i not in has]].abs().sum() > 0


def test_rows_with_nothing_left_count_0_and_learn_nothing() -> None:
    student = torch.randn(3, 4, requires_grad=True)
    teacher = torch.randn(3, 4)
    teacher[1] = -math.inf
    seen = torch.tensor([[0, 1, 2, 3], [-1, -1, -1, -1], [0, 1, -1, -1]])
    loss = listwise_kl(student, teacher, seen=seen)
    (gradient,) = torch.autograd.grad(loss, student)
    last = listwise_kl(student[2:], teacher[2:], seen=seen[2:])
    assert loss.item() == pytest.approx(last.item() / 3, rel=1e-6)
    assert not gradient[:2].any()
    assert gradient[2].any()
    everything = listwise_kl(student[:2], teacher[:2], seen=seen[:2])
    assert everything.item() == 0.0


@given(st.integers(0, 10**6), st.floats(0.1, 10.0))
def test_never_below_zero_and_zero_for_equals(seed: int, temperature: float) -> None:
    student, teacher, seen = drawn(4, 9, seed)
    assert listwise_kl(student, teacher, temperature=temperature, seen=seen).item() >= -1e-5
    same = listwise_kl(teacher / temperature, teacher, temperature=temperature, seen=seen)
    assert same.item() == pytest.approx(0.0, abs=1e-4)


@given(st.permutations(range(6)), st.permutations(range(9)))
def test_neither_the_order_of_rows_nor_that_of_items_matters(rows: list[int], items: list[int]) -> None:
    student, teacher, seen = drawn(6, 9)
    whole = listwise_kl(student, teacher, seen=seen).item()
    assert listwise_kl(student[rows], teacher[rows], seen=seen[rows]).item() == pytest.approx(whole, rel=1e-5)
    place = torch.tensor([*[items.index(i) for i in range(9)], -1])  # the last stands for padding
    moved = listwise_kl(student[:, items], teacher[:, items], seen=place[seen])
    assert moved.item() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_extreme_scores_give_finite_values_and_gradients(dtype: torch.dtype, temperature: float) -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 0.0, -math.inf]], dtype=dtype)
    for student in (scores.nan_to_num(neginf=0.0), -scores.nan_to_num(neginf=0.0), torch.zeros(2, 3, dtype=dtype)):
        leaf = student.requires_grad_()
        loss = listwise_kl(leaf, scores, temperature=temperature, seen=torch.tensor([[2], [-1]]))
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_the_teacher_gets_no_gradient_and_neither_tensor_is_changed() -> None:
    student, teacher, seen = drawn(4, 9)
    before = student.clone(), teacher.clone()
    student.requires_grad_()
    teacher.requires_grad_()
    listwise_kl(student, teacher, seen=seen).backward()
    assert teacher.grad is None
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


def test_the_term_masks_the_rows_own_targets_where_it_is_told_to() -> None:
    student, teacher, seen = drawn(5, 9)
    said = {"scores": student}, {"scores": teacher}, {"targets": seen}
    assert ListwiseKl()(*said).item() == listwise_kl(student, teacher, seen=seen).item()
    assert ListwiseKl(mask_seen=False)(*said).item() == listwise_kl(student, teacher).item()


@pytest.mark.parametrize("mask_seen", [True, False])
def test_candidates_are_the_list_for_both(mask_seen: bool) -> None:
    student, teacher, seen = drawn(5, 12)
    ids = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(i))[:4] for i in range(5)])
    ids[0, 2:] = -1
    ids[1] = seen[1, :4]
    values = teacher.gather(1, ids.clamp(min=0)).masked_fill(ids < 0, -math.inf)
    kept = torch.full((5, 13), -math.inf).scatter(1, ids.where(ids >= 0, 12), values)[:, :12]
    gone = seen.tolist() if mask_seen else [[]] * 5
    found = ListwiseKl(temperature=2.0, mask_seen=mask_seen)(
        {"scores": student}, {"scores.ids": ids.int(), "scores.values": values}, {"targets": seen}
    )
    left = [any(kept[i, j] > -math.inf and j not in gone[i] for j in range(12)) for i in range(5)]
    assert sum(left) == 4  # the second row has nothing left, and does not count
    assert found.item() == pytest.approx(naive(student, kept, 2.0, gone).item() * 5 / 4, rel=1e-5)


def test_a_weight_of_zero_is_an_absent_term() -> None:
    student, teacher, seen = drawn(5, 9)
    said = {"scores": student}, {"scores": teacher}, {"targets": seen}
    both = Objective([("a", ListwiseKl(), 0.5), ("b", ListwiseKl(temperature=9.0), 0.0)])
    assert both(*said)[0].item() == Objective([("a", ListwiseKl(), 0.5)])(*said)[0].item()


def test_the_soft_target_is_the_softened_teacher_and_none_for_candidates() -> None:
    _, teacher, _ = drawn(3, 9)
    found = ListwiseKl(temperature=0.5).target({"scores": teacher}, {"targets": torch.tensor([[0], [4], [-1]])})
    assert found is not None
    wanted = np.exp(teacher.double().numpy() / 0.5)
    wanted[[0, 1], [0, 4]] = 0.0
    np.testing.assert_allclose(found.numpy(), wanted / wanted.sum(1, keepdims=True), rtol=1e-5)
    assert ListwiseKl().target({"scores.ids": torch.zeros(3, 1), "scores.values": torch.zeros(3, 1)}, {}) is None


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        ListwiseKl(temperature=0.0)


def test_the_slope_is_that_of_the_value() -> None:
    student, teacher = laws.drawn(3, 5)
    teacher[0, 1:3] = -math.inf
    laws.slope_is_that_of_the_value(lambda s, t: rows_of_listwise_kl(s, t, temperature=2.0), student, teacher)
    seen = torch.tensor([[0, -1], [1, 4], [-1, -1]])
    laws.slope_is_that_of_the_value(lambda s, t: rows_of_listwise_kl(s, t, seen=seen), student, teacher)


def test_a_row_whose_every_item_is_seen_does_not_count() -> None:
    torch.manual_seed(0)
    scores, teacher = torch.randn(2, 4), torch.randn(2, 4)
    targets = torch.tensor([[0, -1, -1, -1], [0, 1, 2, 3]])
    one = ListwiseKl()({"scores": scores[:1]}, {"scores": teacher[:1]}, {"targets": targets[:1]})
    both = ListwiseKl()({"scores": scores}, {"scores": teacher}, {"targets": targets})
    torch.testing.assert_close(both, one)
    ids = torch.arange(4).expand(2, 4)
    cut = {"scores.ids": ids, "scores.values": teacher}
    torch.testing.assert_close(ListwiseKl()({"scores": scores}, cut, {"targets": targets}), one)
