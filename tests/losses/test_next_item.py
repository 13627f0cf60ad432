import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.encoder import RESERVED, UNKNOWN
from limbeck.losses.next_item import NextItem

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def next_item(steps: Tensor, history: Tensor) -> Tensor:
    """The term's mean."""
    return NextItem()({"steps": steps}, {}, {"history": history})


def naive(steps: Tensor, history: Tensor) -> float:
    """Step by step, in float64."""
    losses = []
    for scores, items in zip(steps.double().tolist(), history.tolist(), strict=True):
        for t in range(len(items) - 1):
            if items[t + 1] >= RESERVED:
                mass = math.log(math.fsum(math.exp(s) for s in scores[t]))
                losses.append(mass - scores[t][items[t + 1] - RESERVED])
    return math.fsum(losses) / len(losses) if losses else 0.0


def drawn(rows: int = 41, items: int = 101) -> tuple[Tensor, Tensor]:
    """Steps and histories of 0 to 7 items, some of them unknown."""
    generator = torch.Generator().manual_seed(0)
    history = torch.randint(UNKNOWN, items + RESERVED, (rows, 7), generator=generator)
    history[::5, 3] = UNKNOWN
    count = torch.randint(0, 8, (rows, 1), generator=generator)
    history = history.where(torch.arange(7) < count, 0)
    return 3 * torch.randn(rows, 7, items, generator=generator), history


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equal_to_a_naive_sum(dtype: torch.dtype) -> None:
    steps, history = drawn()
    found = next_item(steps.to(dtype), history).item()
    assert found == pytest.approx(naive(steps, history), rel=TOLERANCE[dtype])
    assert found == pytest.approx(naive(steps.to(dtype), history), rel=1e-5)


def test_steps_without_a_known_next_item_learn_nothing() -> None:
    steps = torch.randn(1, 4, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(next_item(steps, torch.tensor([[3, UNKNOWN, 4, 0]])), steps)
    assert gradient[0].abs().sum(1).bool().tolist() == [False, True, False, False]


@pytest.mark.parametrize("history", [[[5, 0, 0]], [[0, 0, 0]], [[3]], [[3, UNKNOWN, 0]]])
def test_histories_of_nothing_that_comes_next_lose_nothing(history: list[list[int]]) -> None:
    steps = torch.randn(1, len(history[0]), 6, requires_grad=True)
    loss = next_item(steps, torch.tensor(history))
    (gradient,) = torch.autograd.grad(loss, steps)
    assert loss.item() == 0.0
    assert not gradient.any()


@given(st.permutations(range(6)))
def test_neither_the_order_of_rows_nor_more_padding_matters(order: list[int]) -> None:
    steps, history = drawn(6, 9)
    whole = next_item(steps, history).item()
    assert next_item(steps[order], history[order]).item() == pytest.approx(whole, rel=1e-6)
    wider = torch.cat([steps, torch.ones(6, 2, 9)], 1), torch.cat([history, torch.zeros(6, 2, dtype=torch.int64)], 1)
    assert next_item(*wider).item() == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_extreme_scores_give_finite_values_and_gradients(dtype: torch.dtype) -> None:
    steps = torch.tensor([[[1e4, -1e4], [-1e4, 1e4]]], dtype=dtype, requires_grad=True)
    loss = next_item(steps, torch.tensor([[2, 3]]))
    (gradient,) = torch.autograd.grad(loss, steps)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_the_term_needs_no_teacher() -> None:
    assert not NextItem.needs_teacher
