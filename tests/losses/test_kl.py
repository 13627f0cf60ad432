import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from limbeck.bucketed import bucketed
from limbeck.errors import UserError
from limbeck.knowledge import Knowledge, keep
from limbeck.losses.kl import Kl
from limbeck.losses.kl import kl as rows_of_kl
from limbeck.objective import Objective
from limbeck.types import Signals
from tests.losses import laws

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
B, C = 41, 401


def kl(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """The mean over rows, as the term takes it."""
    return rows_of_kl(student, teacher, temperature=temperature).mean()


def kl_with_tail(student: Tensor, ids: Tensor, values: Tensor, tail: Tensor, *, temperature: float) -> Tensor:
    return rows_of_kl(*bucketed(student, ids, values, tail, temperature=temperature), temperature=temperature)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def naive(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Row by row, class by class, in float64."""
    total = 0.0
    for z, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        q, p = softmax(z / temperature), softmax(t / temperature)
        total += sum(p_c * math.log(p_c / q_c) for p_c, q_c in zip(p, q, strict=True) if p_c > 0)
    return temperature**2 * total / len(student)


def naive_with_tail(student: Tensor, teacher: Tensor, k: int, temperature: float) -> float:
    """Merge all but the teacher's best k classes into one, then compare the two distributions."""
    total = 0.0
    for z, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        q, p = softmax(z / temperature), softmax(t / temperature)
        best = np.argsort(-t, kind="stable")[:k]
        p_merged, q_merged = (np.append(x[best], np.delete(x, best).sum()) for x in (p, q))
        total += sum(a * math.log(a / b) for a, b in zip(p_merged, q_merged, strict=True) if a > 0)
    return temperature**2 * total / len(student)


def logits(rows: int = B, classes: int = C, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = scale * torch.randn(2, rows, classes, generator=generator)
    return drawn[0], drawn[1]


def stored(teacher: Tensor, knowledge: Knowledge) -> Signals:
    """What a store gives back of these logits."""
    id = np.arange(len(teacher))
    kept = keep(knowledge, Signals({"logits": teacher.numpy()}, {"logits": "logits"}), id, np.zeros_like(id))
    values = {name: torch.from_numpy(column.data) for name, column in kept.columns.items()}
    return Signals(values, {"logits": "logits"}, tail_temperatures=knowledge.temperatures)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_equal_to_a_naive_sum(dtype: torch.dtype, temperature: float) -> None:
    student, teacher = (x.to(dtype) for x in logits())
    wanted = naive(student, teacher, temperature)
    assert kl(student, teacher, temperature=temperature).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rounding_the_logits_costs_no_more_than_their_format(dtype: torch.dtype) -> None:
    student, teacher = logits()
    wanted = naive(student, teacher, 4.0)
    assert kl(student.to(dtype), teacher.to(dtype)).item() == pytest.approx(wanted, rel=TOLERANCE[dtype])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("k", [1, 7, 400])
def test_named_classes_and_a_tail_equal_a_naive_merge(k: int, temperature: float) -> None:
    student, teacher = logits()
    said = stored(teacher, Knowledge("float32", k, temperatures=(2.0, temperature)))
    found = Kl(temperature=temperature)({"logits": student}, said, {})
    assert found.item() == pytest.approx(naive_with_tail(student, teacher, k, temperature), rel=2e-5)
    assert found.item() <= kl(student, teacher, temperature=temperature).item() * (1 + 1e-6)


def test_entries_drawn_beside_the_best_keep_a_lower_bound_that_is_closer() -> None:
    student, teacher = logits()
    found = [
        Kl(temperature=2.0)({"logits": student}, stored(teacher, Knowledge("float32", 5, drawn, (2.0,))), {}).item()
        for drawn in (0, 20, 200)
    ]
    assert found[0] < found[1] < found[2] < kl(student, teacher, temperature=2.0).item()


def test_all_classes_named_and_nothing_left_is_the_whole_divergence() -> None:
    student, teacher = logits(9, 5)
    ids = torch.arange(5).repeat(9, 1)
    found = kl_with_tail(student, ids, teacher, torch.zeros(9), temperature=3.0).mean()
    assert found.item() == pytest.approx(kl(student, teacher, temperature=3.0).item(), rel=1e-5)


def test_padding_names_no_class() -> None:
    student, teacher = logits(9, 7)
    said = stored(teacher, Knowledge("float32", 3, temperatures=(1.0,)))
    ids, values, tail = said["logits.ids"], said["logits.values"], said["logits.tail"][:, 0]
    wider = torch.cat([ids, torch.full((9, 2), -1)], 1), torch.cat([values, torch.full((9, 2), -math.inf)], 1)
    plain = kl_with_tail(student, ids.long(), values, tail, temperature=1.0)
    padded = kl_with_tail(student, wider[0].long(), wider[1], tail, temperature=1.0)
    torch.testing.assert_close(padded, plain, rtol=1e-6, atol=0)


def test_another_temperature_than_the_tails_is_an_error() -> None:
    student, teacher = logits(3, 7)
    said = stored(teacher, Knowledge("float32", 2, temperatures=(1.0, 2.0)))
    with pytest.raises(UserError, match=r"tail at temperatures \[1.0, 2.0\], not 4.0; label again"):
        Kl(temperature=4.0)({"logits": student}, said, {})
    with pytest.raises(UserError, match="tail at temperatures"):
        Kl(temperature=1.0)({"logits": student}, dict(said), {})


matrices = st.integers(1, 5).flatmap(lambda c: arrays(np.float32, (3, c), elements=st.floats(-50, 50, width=32)))


@given(matrices, st.floats(0.1, 8.0))
def test_a_student_that_says_what_the_teacher_says_loses_nothing(drawn: np.ndarray, temperature: float) -> None:
    same = torch.from_numpy(drawn)
    assert kl(same, same, temperature=temperature).item() == pytest.approx(0.0, abs=1e-5)
    assert kl(same + 3.0, same, temperature=temperature).item() == pytest.approx(0.0, abs=2e-3)


@given(st.integers(0, 10**6), st.floats(0.2, 8.0), st.integers(1, 12))
@settings(max_examples=50)
def test_never_below_zero_and_merging_classes_never_raises_it(seed: int, temperature: float, k: int) -> None:
    student, teacher = logits(5, 13, seed)
    whole = kl(student, teacher, temperature=temperature).item()
    said = stored(teacher, Knowledge("float32", k, temperatures=(temperature,)))
    merged = Kl(temperature=temperature)({"logits": student}, said, {}).item()
    assert -1e-5 <= merged <= whole * (1 + 1e-4) + 1e-5


@given(st.permutations(range(6)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    student, teacher = logits(6, 5)
    assert kl(student[order], teacher[order]).item() == pytest.approx(kl(student, teacher).item(), rel=1e-6)


def test_the_gradient_reaches_the_student_and_never_the_teacher() -> None:
    student, teacher = (x.requires_grad_() for x in logits(4, 5))
    kl(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    said = stored(teacher.detach(), Knowledge("float32", 2, temperatures=(1.0,)))
    values = said["logits.values"].clone().requires_grad_()
    kl_with_tail(
        student, said["logits.ids"].long(), values, said["logits.tail"][:, 0], temperature=1.0
    ).sum().backward()
    assert values.grad is None


@pytest.mark.parametrize("k", [None, 100])
def test_t_squared_is_carried_exactly_once(k: int | None) -> None:
    """In the limit of a high temperature the gradient no longer depends on it (Hinton 2015, equation 4)."""
    norms = []
    for temperature in (20.0, 40.0, 80.0):
        student, teacher = logits(B, C, scale=1.0)
        student.requires_grad_()
        said = (
            {"logits": teacher} if k is None else stored(teacher, Knowledge("float32", k, temperatures=(temperature,)))
        )
        Kl(temperature=temperature)({"logits": student}, said, {}).backward()
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert max(norms) / min(norms) < 1.05


def test_the_gradient_keeps_its_size_from_temperature_1_to_8() -> None:
    norms = []
    for temperature in (1.0, 2.0, 4.0, 8.0):
        student, teacher = logits(B, 1000, scale=1.0)
        student.requires_grad_()
        kl(student, teacher, temperature=temperature).backward()
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    # Without T^2 the last is dozens of times below the first; with it twice, as far above.
    assert 0.2 < norms[-1] / norms[0] < 5


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_extreme_logits_give_finite_values_and_gradients(dtype: torch.dtype, temperature: float) -> None:
    one_hot = torch.tensor([[1e4, -1e4, -1e4], [0.0, 1e4, 0.0]])
    for student in (one_hot, -one_hot, torch.zeros(2, 3)):
        leaf = student.to(dtype).requires_grad_()
        loss = kl(leaf, one_hot.to(dtype), temperature=temperature)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        ids, values = torch.tensor([[0], [1]]), torch.tensor([[1e4], [1e4]], dtype=dtype)
        for tail in (torch.zeros(2), torch.ones(2)):
            loss = kl_with_tail(leaf, ids, values, tail, temperature=temperature).mean()
            (gradient,) = torch.autograd.grad(loss, leaf)
            assert torch.isfinite(loss)
            assert torch.isfinite(gradient).all()


def test_classes_the_teacher_rules_out_have_no_mass() -> None:
    student = torch.tensor([[1.0, 2.0, 5.0]], requires_grad=True)
    teacher = torch.tensor([[0.5, 0.0, -math.inf]])
    p, q = softmax(np.array([0.5, 0.0])), softmax(np.array([1.0, 2.0, 5.0]))
    loss = kl(student, teacher, temperature=1.0)
    assert loss.item() == pytest.approx(sum(p * np.log(p / q[:2])), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, student)
    np.testing.assert_allclose(gradient.numpy()[0], q - np.append(p, 0), atol=1e-6)


def test_a_single_class_has_nothing_to_teach() -> None:
    student = torch.randn(4, 1, requires_grad=True)
    loss = kl(student, torch.randn(4, 1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert not gradient.any()


def test_a_weight_of_zero_is_an_absent_term() -> None:
    student, teacher = logits(4, 5)
    both = Objective([("kl", Kl(temperature=2.0), 1.0), ("kl", Kl(temperature=9.0), 0.0)])
    alone = Objective([("kl", Kl(temperature=2.0), 1.0)])
    found, terms = both({"logits": student}, {"logits": teacher}, {})
    assert found.item() == alone({"logits": student}, {"logits": teacher}, {})[0].item()
    assert list(terms) == ["kl0"]


def test_the_soft_target_is_the_teacher_as_it_is_and_none_for_a_shortened_one() -> None:
    _, teacher = logits(4, 5)
    found = Kl(temperature=3.0).target({"logits": teacher}, {})
    assert found is not None
    np.testing.assert_allclose(found.numpy(), [softmax(row) for row in teacher.double().numpy()], rtol=1e-5)
    assert Kl(temperature=3.0).target(stored(teacher, Knowledge("float32", 2, temperatures=(3.0,))), {}) is None
    assert Kl(temperature=3.0).temperatures == (3.0,)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(UserError, match="must be above 0"):
        Kl(temperature=temperature)


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(Kl())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_slope_is_that_of_the_value(temperature: float) -> None:
    laws.slope_is_that_of_the_value(lambda s, t: rows_of_kl(s, t, temperature=temperature), *laws.drawn(3, 5))
