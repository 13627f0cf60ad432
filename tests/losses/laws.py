"""What every loss is held to: its value against loops, its gradient, the order of rows, extremes, temperature.

`Loss` is a pure function with its options bound: (student, teacher, ...) -> (B,) or a scalar.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from limbeck.divergence import Divergence
from limbeck.knowledge import Knowledge, keep
from limbeck.term import RowTerm
from limbeck.types import Signals
from tests.losses.naive import merged, softmax

Loss = Callable[..., Tensor]
Naive = Callable[..., float | Sequence[float]]

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""Relative, of a value whose inputs were rounded to that format."""
SHAPES = [(3, 5), (3, 41), (2, 401)]


def drawn(*shape: int, seed: int = 0, scale: float = 3.0, count: int = 2) -> tuple[Tensor, ...]:
    """As many tensors of one shape, from a normal distribution: a student's and a teacher's by default."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(count, *shape, generator=generator))


def apart(rows: int, items: int, seed: int = 0, step: float = 1 / 32) -> Tensor:
    """A teacher's scores that are no two the same in a row, not even in bfloat16: its order is beyond doubt."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(items, generator=generator) - items // 2 for _ in range(rows)]) * step


def equals_naive(loss: Loss, naive: Naive, *tensors: Tensor, rounding: float = TOLERANCE[torch.bfloat16]) -> None:
    """The loss is what loops in float64 make of the same numbers; in bfloat16 it errs by the rounding of its inputs.

    Args:
        loss: to be held to it.
        naive: takes the tensors in float64 and gives a number, or one a row.
        tensors: what both read; whole numbers and truth values stay as they are.
        rounding: how far, relative to the greatest, bfloat16 inputs may move a value.
    """
    wanted = _wanted(naive, tensors)
    for dtype in TOLERANCE:
        rounded = tuple(t.to(dtype) if t.is_floating_point() else t for t in tensors)
        found = loss(*rounded)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), _wanted(naive, rounded), rtol=2e-5, atol=2e-6)
        near = rounding * float(wanted.abs().max()) if dtype is torch.bfloat16 else 1e-5
        torch.testing.assert_close(found.double(), wanted, rtol=2e-5, atol=near)


def _wanted(naive: Naive, tensors: Sequence[Tensor]) -> Tensor:
    doubles = [t.detach().double() if t.is_floating_point() else t for t in tensors]
    return torch.as_tensor(naive(*doubles), dtype=torch.float64)


def gradient(loss: Loss, student: Tensor, *others: Tensor) -> Tensor:
    """Of the sum over rows with respect to the student; no other tensor may get one."""
    mine = student.detach().clone().requires_grad_()
    theirs = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in others]
    loss(mine, *theirs).sum().backward()  # type: ignore[no-untyped-call]  # torch's
    assert all(t.grad is None or not t.grad.any() for t in theirs), "gradient reaches the teacher"
    assert mine.grad is not None
    assert mine.grad.dtype == student.dtype
    return mine.grad


def slope_is_that_of_the_value(loss: Loss, student: Tensor, *others: Tensor) -> None:
    """The gradient that is written down is that of the value, in float64; nothing that came in is written over.

    It may be asked for twice, and is not computed where none is wanted.
    """
    tensors = [t.double() if t.is_floating_point() else t for t in (student, *others)]
    before = [t.clone() for t in tensors]
    leaf = tensors[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda mine: loss(mine, *tensors[1:]), [leaf])
    found = loss(leaf, *tensors[1:])
    first, second = (torch.autograd.grad(found.sum(), leaf, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(now, then) for now, then in zip(tensors, before, strict=True))
    with torch.no_grad():
        unasked = loss(leaf, *tensors[1:])
    assert not unasked.requires_grad
    assert torch.equal(unasked, found)


def only_the_student_learns(loss: Loss, student: Tensor, *others: Tensor) -> None:
    """The gradient is finite, reaches the student in its own dtype, and nobody else."""
    for dtype in TOLERANCE:
        found = gradient(loss, student.to(dtype), *others)
        assert torch.isfinite(found).all()
        assert found.any()


def ignores_the_order_of_rows(loss: Loss, *tensors: Tensor, tolerance: float = 1e-5) -> None:
    """Rows in another order lose the same: each its own, or together."""
    order = torch.arange(len(tensors[0])).roll(1).flip(0)
    found, wanted = loss(*(t[order] for t in tensors)), loss(*tensors)
    torch.testing.assert_close(found, wanted[order] if wanted.ndim else wanted, rtol=tolerance, atol=tolerance)


def stays_finite(loss: Loss, *, ruled_out: bool = True) -> None:
    """Values and gradients, for logits of +-1e4, one-hot teachers, single classes, single rows, in both formats.

    Args:
        loss: over logits (B, C) of a student and a teacher.
        ruled_out: also try a teacher's -inf.
    """
    hot = torch.tensor([[1e4, -1e4, -1e4], [0.0, 1e4, 0.0]])
    teachers = [hot, -hot, torch.zeros(2, 3), torch.tensor([[30.0, 0.0, 0.0], [0.0, -30.0, 0.0]])]
    if ruled_out:
        teachers.append(torch.tensor([[0.5, 0.0, -math.inf], [1e4, -math.inf, -math.inf]]))
    tried = [(student, teacher) for student in (hot, -hot, torch.zeros(2, 3)) for teacher in teachers]
    tried += [(torch.ones(2, 1), torch.zeros(2, 1)), (torch.ones(1, 1), torch.zeros(1, 1)), (hot[:1], hot.flip(0)[:1])]
    for student, teacher in tried:
        for dtype in TOLERANCE:
            value = loss(student.to(dtype), teacher.to(dtype))
            assert torch.isfinite(value).all(), f"{student.tolist()} beside {teacher.tolist()}: {value.tolist()}"
            found = gradient(loss, student.to(dtype), teacher.to(dtype))
            assert torch.isfinite(found).all(), f"{student.tolist()} beside {teacher.tolist()}: {found.tolist()}"


def change_of_gradient(
    loss: Callable[[float], Loss], *, rows: int = 8, classes: int = 401, between: tuple[float, float] = (1.0, 8.0)
) -> float:
    """How many times greater the gradient is at the higher temperature; far below 1 without T^2, above it with T^4.

    Args:
        loss: temperature -> loss.
        rows, classes: of random logits of unit variance.
        between: the two temperatures.
    """
    student, teacher = drawn(rows, classes, scale=1.0)
    low, high = (gradient(loss(temperature), student, teacher).norm().item() for temperature in between)
    return high / low


def stored(teacher: Tensor, top: int, temperature: float, *, sampled: int = 0, seed: int = 0) -> Signals:
    """What a store gives back of these logits: the best and some drawn, and the tail at one temperature."""
    knowledge = Knowledge("float32", top, sampled, (temperature,), seed)
    id = np.arange(len(teacher))
    kept = keep(knowledge, Signals({"logits": teacher.numpy()}, {"logits": "logits"}), id, np.zeros_like(id))
    values = {name: torch.from_numpy(column.data) for name, column in kept.columns.items()}
    return Signals(values, {"logits": "logits"}, tail_temperatures=knowledge.temperatures)


def merges_all_but_the_top(term: Divergence, divergence: Callable[[list[float], list[float]], float]) -> None:
    """From top-k knowledge it is the naive divergence of K named classes and one bucket, times T^2."""
    student, teacher = drawn(3, 41)
    for top in (1, 7, 40):
        said = stored(teacher, top, term.temperature)
        wanted = 0.0
        for z, t in zip(student.double(), teacher.double(), strict=True):
            best = t.argsort(descending=True)[:top].tolist()
            p, q = (merged(softmax(x, term.temperature), best) for x in (t, z))
            wanted += divergence(p, q) / len(teacher)
        found = term({"logits": student}, said, {}).item()
        assert abs(found - term.temperature**2 * wanted) <= 1e-4 * (1 + abs(found))


def leaves_out_masked_steps(term: RowTerm) -> None:
    """The mean over steps that count; what stands at others, be it NaN, reaches neither value nor gradient."""
    student, teacher = drawn(3, 4, 5)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    flat = mask.bool()
    wanted = term({"logits": student[flat]}, {"logits": teacher[flat]}, {})
    leaf = student.masked_fill(~flat.unsqueeze(2), math.nan).requires_grad_()
    found = term({"logits": leaf}, {"logits": teacher}, {"mask": mask})
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(found, leaf)
    assert torch.isfinite(gradient).all()
    assert gradient[flat].any()
    assert not gradient[~flat].any()
    every = term({"logits": student}, {"logits": teacher}, {})
    torch.testing.assert_close(every, term({"logits": student.flatten(0, 1)}, {"logits": teacher.flatten(0, 1)}, {}))
