"""What our losses are timed beside computes the same."""

import copy
import importlib
from pathlib import Path

import pytest
import torch

from limbeck.testing import outputs

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    plain, inputs = (importlib.import_module(name) for name in ("plain", "inputs"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, length in {"H": 6, "W": 6, "K": 5, "M": 20}.items():
        monkeypatch.setitem(outputs.LENGTH, name, length)


@pytest.mark.parametrize("name", sorted(plain.NAIVE))
def test_a_loss_and_its_plain_form_agree_in_value_and_gradient(name: str) -> None:
    term = inputs.made(name)
    if hasattr(term, "slots"):
        term.slots = 512
    torch.manual_seed(0)
    said = inputs.signals(name, term, 100, 320)  # rows and items enough for the default lists of forty
    term.size(said.student, said.teacher, said.batch)
    beside = copy.deepcopy(term)
    leaves = [value.requires_grad_() for value in said.student.values() if value.is_floating_point()]
    for step in range(2):  # the second reads what the first has written down
        values, gradients = [], []
        for own, loss in ((beside, lambda *signals: plain.NAIVE[name](beside, *signals)), (term, term)):
            torch.manual_seed(step)
            values.append(loss(said.student, said.teacher, said.batch))
            gradients.append(torch.autograd.grad(values[-1], [*leaves, *own.parameters()], allow_unused=True))
        torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
        largest = max(float(gradient.abs().max()) for gradient in gradients[1] if gradient is not None)
        assert largest > 0
        for mine, theirs in zip(*gradients, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * largest)
