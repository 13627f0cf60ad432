from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck import piecewise as module
from limbeck.losses.generalised_jsd import generalised_jsd
from limbeck.losses.kl import kl
from limbeck.losses.listwise_kl import ListwiseKl
from limbeck.losses.reverse_kl import reverse_kl
from limbeck.piecewise import piecewise

torch.set_num_threads(1)
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 1e-2}
"""Relative, of gradients in that format; values are float32 whatever comes in."""


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "PIECE", 100)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", [kl, reverse_kl, generalised_jsd, partial(kl, temperature=1.0)])
@pytest.mark.parametrize(("rows", "classes"), [(7, 41), (3, 401), (1, 5)])
def test_pieces_lose_what_the_whole_loses_and_learn_what_it_learns(
    loss: Callable[..., Tensor], rows: int, classes: int, dtype: torch.dtype
) -> None:
    student, teacher = 3 * torch.randn(2, rows, classes, generator=torch.Generator().manual_seed(0)).to(dtype)
    above = torch.linspace(-1.0, 2.0, rows)
    found = []
    for one in (loss, piecewise(loss)):
        leaf, knows = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        values = one(leaf, knows)
        (values * above).sum().backward()
        assert knows.grad is None or not knows.grad.any()
        assert leaf.grad is not None
        assert leaf.grad.dtype == dtype
        found.append((values.detach(), leaf.grad))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.usefixtures("tiny_pieces")
def test_a_gradient_can_be_asked_for_twice() -> None:
    student, teacher = torch.randn(2, 7, 41, generator=torch.Generator().manual_seed(0))
    leaf = student.requires_grad_()
    total = piecewise(kl)(leaf, teacher).sum()
    (first,) = torch.autograd.grad(total, leaf, retain_graph=True)
    total.backward()
    assert torch.equal(first, leaf.grad)


def test_no_piece_is_larger_than_was_said(tiny_pieces: None) -> None:
    seen: list[int] = []

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        seen.append(student.numel())
        return (student - teacher).sum(1)

    piecewise(loss)(torch.zeros(9, 30), torch.zeros(9, 30))
    assert max(seen) <= 100
    assert sum(seen) == 270


@pytest.mark.parametrize("mask_seen", [True, False])
def test_a_list_of_all_items_is_taken_in_pieces_too(mask_seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, known = torch.randn(2, 7, 41, generator=torch.Generator().manual_seed(0))
    batch = {"targets": torch.tensor([[0, 5, -1]] * 7)}
    term = ListwiseKl(temperature=0.5, mask_seen=mask_seen)
    wanted = term({"scores": scores}, {"scores": known}, batch)
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "PIECE", 100)
    torch.testing.assert_close(term({"scores": scores}, {"scores": known}, batch), wanted)
