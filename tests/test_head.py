import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limbeck import head as module
from limbeck.head import Head, fused, picked, rows_of_a_block
from limbeck.losses.generalised_jsd import generalised_jsd
from limbeck.losses.kl import kl
from limbeck.losses.reverse_kl import reverse_kl

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""Relative to the largest, of values and gradients of heads in that format."""
MEMORY = """
import torch
from limbeck.head import Head, fused
from limbeck.losses.kl import kl
torch.set_num_threads(1)
rows, classes, width = {rows}, {classes}, 64
student = [torch.randn(rows, width), torch.randn(classes, width), torch.zeros(classes)]
teacher = Head(torch.randn(rows, width), torch.randn(classes, width))
def peak():  # ru_maxrss would start from the parent's
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
share = torch.full((rows,), 1 / rows)
fused(kl, Head(*(part[:9].clone().requires_grad_() for part in student)),
      [Head(teacher.hidden[:9], teacher.weight[:9])], share=share[:9]).backward()
before = peak()
parts = [part.requires_grad_() for part in student]
(0.5 * fused(kl, Head(*parts), [teacher], share=share)).backward()
assert all(part.grad.any() for part in parts)
print(peak() - before, peak())
"""


def parts(rows: int, classes: int, width: int, seed: int = 0) -> Head:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((rows, width), (classes, width), (classes,))
    return Head(*(torch.randn(*shape, generator=draw) for shape in shapes))


def as_leaves(head: Head, dtype: torch.dtype = torch.float32) -> Head:
    return Head(*(None if part is None else part.detach().to(dtype).clone().requires_grad_() for part in head))


def near(found: Tensor | None, wanted: Tensor | None, dtype: torch.dtype) -> None:
    assert found is not None
    assert wanted is not None
    assert found.dtype == wanted.dtype
    room = TOLERANCE[dtype] * float(wanted.detach().abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=room)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of several pieces, and several blocks."""
    for name, value in {"PIECE": 90, "BLOCK": 1300, "ROWS": 3}.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", [kl, reverse_kl, generalised_jsd, partial(kl, temperature=1.0)])
@pytest.mark.parametrize(("rows", "classes"), [(7, 41), (4, 401), (1, 5)])
def test_fused_is_the_naive_divergence_of_the_two_heads_logits(
    loss: Callable[..., Tensor], rows: int, classes: int, dtype: torch.dtype
) -> None:
    first, teacher = as_leaves(parts(rows, classes, 6), dtype), parts(rows, classes, 4, seed=1)
    share = torch.linspace(0.0, 1.0, rows)
    found = fused(loss, first, [teacher], share=share)
    assert found.dtype == torch.float32
    second = as_leaves(first)  # the same rounded numbers, computed in float32
    logits = functional.linear(second.hidden, second.weight, second.bias)
    wanted = (loss(logits, functional.linear(*teacher)) * share).sum()
    near(found, wanted, dtype)
    (2 * found).backward()
    (2 * wanted).backward()
    for mine, naive in zip(first, second, strict=True):
        assert mine is not None
        assert naive is not None
        assert mine.grad is not None
        assert mine.grad.dtype == dtype
        near(mine.grad.float(), naive.grad, dtype)


@pytest.mark.usefixtures("small_blocks")
def test_stored_logits_do_as_well_as_the_teachers_head() -> None:
    student, teacher = parts(7, 41, 6), parts(7, 41, 4, seed=1)
    share = torch.full((7,), 1 / 7)
    stored = fused(kl, student, [functional.linear(*teacher)], share=share)
    torch.testing.assert_close(stored, fused(kl, student, [teacher], share=share))


@pytest.mark.usefixtures("small_blocks")
def test_what_needs_no_gradient_gets_none_and_what_is_asked_for_twice_stays() -> None:
    student, teacher = as_leaves(parts(7, 41, 6)._replace(bias=None)), parts(7, 41, 4, seed=1)
    student.weight.requires_grad_(requires_grad=False)
    leaves = [teacher.hidden.requires_grad_(), teacher.weight.requires_grad_()]
    total = fused(kl, student, [teacher], share=torch.full((7,), 1 / 7))
    (once,) = torch.autograd.grad(total, student.hidden, retain_graph=True)
    total.backward()
    assert torch.equal(once, student.hidden.grad)
    assert student.weight.grad is None
    assert all(leaf.grad is None for leaf in leaves)
    with torch.no_grad():
        assert fused(kl, student, [teacher], share=torch.full((7,), 1 / 7)).item() == total.item()


def test_states_of_another_dtype_are_turned_into_the_weights() -> None:
    student = parts(3, 5, 6)
    half = student._replace(hidden=student.hidden.bfloat16().requires_grad_())
    total = fused(kl, half, [torch.zeros(3, 5)], share=torch.ones(3))
    total.backward()
    assert half.hidden.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_picked_logits_are_those_of_the_whole(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 50)
    ids = torch.randint(0, 41, (7, 3), generator=torch.Generator().manual_seed(0))
    ids[0] = 4  # one item thrice: its gradients add up
    mine = as_leaves(parts(7, 41, 6), dtype)
    naive = as_leaves(mine)
    found = picked(mine, ids)
    wanted = functional.linear(*naive).gather(1, ids)
    near(found.float(), wanted, dtype)
    found.float().square().sum().backward()
    wanted.square().sum().backward()
    for one, other in zip(mine, naive, strict=True):
        assert one is not None
        assert other is not None
        near(one.grad.float() if one.grad is not None else None, other.grad, dtype)


def peak(rows: int, classes: int) -> tuple[int, int]:
    """Bytes beyond what the heads take, and in all, of a fresh process."""
    told = subprocess.run(
        [sys.executable, "-c", MEMORY.format(rows=rows, classes=classes)], check=True, capture_output=True, text=True
    )
    extra, whole = map(int, told.stdout.split())
    return extra, whole


@pytest.mark.slow
def test_memory_is_that_of_a_block_and_not_of_the_full_matrix() -> None:
    classes, rows = 151_936, 256
    block, gradient = 4 * rows_of_a_block(classes) * classes, 4 * 64 * classes
    extra, _ = peak(rows, classes)
    assert extra < 2 * gradient + 3 * block
    more, _ = peak(4 * rows, classes)
    assert more < extra + block  # though there are four times as many logits


@pytest.mark.slow
def test_a_million_classes_fit_into_a_gigabyte_and_a_half() -> None:
    _, whole = peak(48, 1_000_000)  # three blocks: more rows take time, and no memory
    assert whole < 1.5e9


def test_a_part_in_which_no_step_counts_loses_nothing() -> None:
    head = Head(torch.zeros(0, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True), None)
    value = fused(kl, head, [torch.zeros(0, 7)], share=torch.zeros(0))
    value.backward()
    assert value.item() == 0.0
