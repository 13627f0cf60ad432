import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.losses.cross_entropy import CrossEntropy

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def cross_entropy(
    student: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """The term's mean over rows."""
    batch = {"label": label} if weight is None else {"label": label, "weight": weight}
    return CrossEntropy(label_smoothing=label_smoothing)({"logits": student}, {}, batch)


def naive(student: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, smoothing: float) -> float:
    total = mass = 0.0
    for logits, y, w in zip(student.tolist(), label.tolist(), weight.tolist(), strict=True):
        if y < 0:
            continue
        norm = math.log(sum(math.exp(z) for z in logits))
        target = [smoothing / len(logits) + (1 - smoothing) * (c == y) for c in range(len(logits))]
        total -= w * sum(t * (z - norm) for t, z in zip(target, logits, strict=True))
        mass += w
    return total / mass if mass else 0.0


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equal_to_a_naive_sum(dtype: torch.dtype, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(41, 7, generator=generator)
    label = torch.randint(-1, 7, (41,), generator=generator)
    weight = torch.rand(41, generator=generator)
    for w in (weight, None):
        wanted = naive(student, label, torch.ones(41) if w is None else w, smoothing)
        found = cross_entropy(student.to(dtype), label, weight=w, label_smoothing=smoothing)
        assert found.item() == pytest.approx(wanted, rel=TOLERANCE[dtype])


def test_rows_without_a_label_neither_count_nor_learn() -> None:
    student = torch.randn(4, 3, requires_grad=True)
    whole = cross_entropy(student, torch.tensor([0, -1, 2, -1]))
    assert whole.item() == pytest.approx(cross_entropy(student[[0, 2]], torch.tensor([0, 2])).item())
    whole.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert not student.grad[[1, 3]].any()
    assert student.grad[[0, 2]].any()


def test_without_any_label_the_loss_is_0_and_so_is_the_gradient() -> None:
    student = torch.randn(2, 3, requires_grad=True)
    for label, weight in ((torch.tensor([-1, -1]), None), (torch.tensor([0, 1]), torch.zeros(2))):
        loss = cross_entropy(student, label, weight=weight)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.item() == 0.0
        assert not gradient.any()


def test_an_infinite_logit_of_a_skipped_row_harms_nobody() -> None:
    student = torch.tensor([[float("inf"), 0.0], [0.0, 0.0]], requires_grad=True)
    assert cross_entropy(student, torch.tensor([-1, 1])).item() == pytest.approx(math.log(2))


@given(st.permutations(range(5)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    student = torch.arange(15.0).reshape(5, 3).sin()
    label = torch.tensor([0, 2, -1, 1, 1])
    whole = cross_entropy(student, label)
    assert cross_entropy(student[order], label[order]).item() == pytest.approx(whole.item(), rel=1e-6)


def test_the_term_reads_the_signal_it_is_told_and_no_teacher() -> None:
    student, label = torch.randn(3, 2), torch.tensor([0, 1, -1])
    found = CrossEntropy(signal="first")({"first": student}, {}, {"label": label})
    assert found.item() == cross_entropy(student, label).item()
    assert not CrossEntropy.needs_teacher


def test_the_target_is_one_hot_on_the_axis_it_is_told() -> None:
    batch = {"label": torch.tensor([1, -1, 0]), "outputs": torch.tensor([3, 3, 3])}
    assert CrossEntropy().target({}, batch).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    smooth = CrossEntropy(label_smoothing=0.3).target({}, batch)
    assert smooth[0].tolist() == pytest.approx([0.1, 0.8, 0.1])
    assert smooth[1].tolist() == [0, 0, 0]


def test_an_impossible_smoothing_is_refused() -> None:
    with pytest.raises(UserError, match="label_smoothing is 1"):
        CrossEntropy(label_smoothing=1.0)
