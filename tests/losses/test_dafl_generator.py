import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.dafl_generator import DaflGenerator, dafl_generator
from tests.losses import laws
from tests.losses.naive import softmax


def naive(logits: Tensor, features: Tensor) -> float:
    rows = [softmax(row) for row in logits]
    sure = sum(-math.log(max(p)) for p in rows) / len(rows)
    numbers = [abs(x) for x in features.flatten().tolist()]
    classes = [sum(p) / len(rows) for p in zip(*rows, strict=True)]
    decimal = -sum(p * math.log10(p) for p in classes)
    return 0.05 * sure - 0.01 * sum(numbers) / len(numbers) - 5 * decimal


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum_with_the_authors_decimal_entropy(shape: tuple[int, int]) -> None:
    laws.equals_naive(dafl_generator, naive, laws.drawn(*shape)[0], laws.drawn(shape[0], 7, seed=1)[0])


def test_least_for_sure_and_balanced_rows() -> None:
    features = torch.zeros(4, 1)
    balanced, unsure = 20 * torch.eye(4), torch.zeros(4, 4)
    alike = balanced[:1].expand(4, 4)
    best = dafl_generator(balanced, features).item()
    assert best < dafl_generator(unsure, features).item()
    assert best < dafl_generator(alike, features).item()
    assert dafl_generator(balanced, features + 1).item() < best


def test_the_gradient_passes_through_the_teacher_to_the_generator() -> None:
    torch.manual_seed(0)
    generator, teacher = torch.nn.Linear(3, 4), torch.nn.Linear(4, 5).requires_grad_(False)
    drawn = generator(torch.randn(6, 3))
    DaflGenerator()({"logits": teacher(drawn), "embedding": drawn}, {}, {}).backward()
    assert generator.weight.grad is not None
    assert generator.weight.grad.any()
    assert teacher.weight.grad is None


def test_rows_may_stand_in_any_order_and_extremes_are_finite() -> None:
    logits, features = laws.drawn(3, 5)
    laws.ignores_the_order_of_rows(dafl_generator, logits, features)
    for extreme in (torch.tensor([[1e4, -1e4], [1e4, -1e4]]), torch.zeros(1, 1), torch.tensor([[1.0, -math.inf]])):
        leaf = extreme.clone().requires_grad_()
        value = dafl_generator(leaf, torch.ones(len(extreme), 2))
        (gradient,) = torch.autograd.grad(value, leaf)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["sure", "stirred", "balanced"])
def test_impossible_weights_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is -1"):
        DaflGenerator(**{name: -1})
