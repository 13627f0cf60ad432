import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import parts
from limbeck.errors import UserError
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.linear_head import LinearHead
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.verbs.distill import distill
from tests.losses.laws import stored

torch.set_num_threads(1)
B, T, D, V = 5, 4, 6, 41


def said(*shape: int, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    sizes = {"input.head": (*shape, D), "weight.head": (V, D), "bias.head": (V,)}
    return {name: torch.randn(*size, generator=draw) for name, size in sizes.items()}


def logits(signals: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"logits": nn.functional.linear(signals["input.head"], signals["weight.head"], signals["bias.head"])}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("kl", {}), ("reverse_kl", {}), ("generalised_jsd", {"beta": 0.3}), ("skewed_kl", {"reverse": True})],
)
@pytest.mark.parametrize("shape", [(B,), (B, T)])
def test_it_is_the_divergence_of_the_logits_weighed_and_masked_alike(
    name: str, settings: dict[str, Any], shape: tuple[int, ...]
) -> None:
    student, teacher = said(*shape), said(*shape, seed=1)
    batch = {"weight": torch.tensor([1.0, 2.0, 0.0, 0.5, 1.0]), "mask": torch.ones(B, T)}
    batch["mask"][1, 2:] = batch["mask"][3] = 0
    plain = parts.make("losses", name, {"temperature": 2.0, **settings})
    wanted = plain(logits(student), logits(teacher), batch)
    for path, known in (("head", teacher), (None, logits(teacher))):
        term = LinearHead(student="head", teacher=path, divergence=name, temperature=2.0, settings=settings)
        term.size(student, known, batch)
        torch.testing.assert_close(term(student, known, batch), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "sampled"), [("kl", 0), ("sampled_kl", 3)])
def test_it_reads_top_k_knowledge_as_the_divergence_does(name: str, sampled: int) -> None:
    student = said(B)
    known = stored(logits(said(B, seed=1))["logits"], 7, 2.0, sampled=sampled)
    settings = {"sampled": sampled} if sampled else {}
    term = LinearHead(student="head", divergence=name, temperature=2.0, settings=settings)
    assert term.temperatures == (2.0,)
    wanted = parts.make("losses", name, {"temperature": 2.0, **settings})(logits(student), known, {})
    torch.testing.assert_close(term(student, known, {}), wanted, rtol=1e-5, atol=1e-6)


def test_padded_steps_teach_nothing_be_they_nan() -> None:
    student, teacher = said(B, T), said(B, T, seed=1)
    mask = torch.ones(B, T)
    mask[:, 3] = 0
    states = student["input.head"].masked_fill(mask.unsqueeze(2) == 0, math.nan).requires_grad_()
    LinearHead(student="head", teacher="head")({**student, "input.head": states}, teacher, {"mask": mask}).backward()
    assert states.grad is not None
    assert torch.isfinite(states.grad).all()
    assert not states.grad[:, 3].any()


class Net(nn.Module):
    def __init__(self, width: int, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(3, width), nn.Tanh())
        self.head = nn.Linear(width, V)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x))
        self.seen.append(found.shape[-1])
        return found


def taught(term: Any, *terms: tuple[str, Any, float]) -> Net:
    student, teacher = Net(4, seed=0), Net(8, seed=1)
    rows = [{"x": torch.randn(16, 3, generator=torch.Generator().manual_seed(i))} for i in range(4)]
    objective = Objective([("term", term, 1.0), *terms])
    distill(student, rows, teacher=teacher, objective=objective, training=Training(epochs=3, device="cpu"))
    return student


@pytest.mark.parametrize("alone", [True, False])
def test_a_student_trained_through_its_head_is_the_one_trained_on_its_logits(alone: bool) -> None:
    wanted = taught(parts.make("losses", "kl", {"temperature": 1.0}))
    found = taught(LinearHead(student="head", teacher="head", alone=alone))
    for name, weight in found.state_dict().items():
        torch.testing.assert_close(weight, wanted.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert set(found.seen) == ({0} if alone else {V})
    assert found(torch.zeros(1, 3)).shape == (1, V)  # trained, it answers again
    assert set(found.state_dict()) == set(wanted.state_dict())


def test_a_head_whose_answers_another_loss_reads_cannot_be_alone() -> None:
    term = LinearHead(student="head", teacher="head", alone=True)
    with pytest.raises(UserError, match="'hard' reads what they answer"):
        Objective([("kl", term, 1.0), ("hard", CrossEntropy(), 0.5)])
    Objective([("kl", term, 1.0), ("hard", CrossEntropy(), 0.0)])


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="no setting"):
        LinearHead(student="head", divergence="cross_entropy")
    with pytest.raises(UserError, match="temperature is 0"):
        LinearHead(student="head", temperature=0)
    with pytest.raises(UserError, match="stored knowledge has its logits"):
        LinearHead(student="head", teacher="head").size(said(B), {"logits": torch.zeros(B, V)}, {})


def test_its_temperature_can_be_scheduled() -> None:
    term = LinearHead(student="head")
    student, teacher = said(B), logits(said(B, seed=1))
    before = term(student, teacher, {})
    term.temperature = 4.0
    torch.testing.assert_close(
        term(student, teacher, {}), parts.make("losses", "kl", {"temperature": 4.0})(logits(student), teacher, {})
    )
    assert term(student, teacher, {}) != before
