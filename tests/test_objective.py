import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.fit_net import FitNet
from limbeck.losses.kl import Kl
from limbeck.losses.next_item import NextItem
from limbeck.objective import Objective
from limbeck.term import Term
from limbeck.weight import Schedule

SAID = {"logits": torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]])}
KNOWN = {"logits": torch.tensor([[2.0, 2.0, 1.0], [0.0, 1.0, 3.0]])}
BATCH = {"label": torch.tensor([1, 2]), "outputs": torch.tensor([3, 3])}


class Counting(Term):
    """Says how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        self.calls += 1
        return self.scale * 3.0


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    objective = Objective([("hard", CrossEntropy(), 0.3), ("kl", Kl(temperature=2.0), 2.0)])
    total, terms = objective(SAID, KNOWN, BATCH)
    hard, soft = CrossEntropy()(SAID, KNOWN, BATCH), Kl(temperature=2.0)(SAID, KNOWN, BATCH)
    assert total.item() == pytest.approx(0.3 * hard.item() + 2.0 * soft.item())
    assert {name: value.item() for name, value in terms.items()} == {"hard": hard.item(), "kl": soft.item()}


def test_terms_count_in_single_precision_whatever_autocast_says() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = ({"logits": torch.randn(2, 5, generator=generator)} for _ in range(2))
    wanted, _ = Objective([("kl", Kl(), 1.0)])(student, teacher, BATCH)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = Objective([("kl", Kl(), 1.0)])(student, teacher, BATCH)
    assert found.dtype == torch.float32
    assert found.item() == wanted.item()


def test_a_term_of_weight_0_is_absent() -> None:
    term = Counting()
    objective = Objective([("hard", CrossEntropy(), 1.0), ("counting", term, 0.0)])
    total, terms = objective(SAID, {}, BATCH)
    assert total.item() == CrossEntropy()(SAID, {}, BATCH).item()
    assert list(terms) == ["hard"]
    assert term.calls.item() == 0
    assert not objective.needs_teacher


def test_terms_of_one_name_are_told_apart() -> None:
    objective = Objective([("kl", Kl(temperature=1.0), 1.0), ("hard", CrossEntropy(), 1.0), ("kl", Kl(), 1.0)])
    assert list(objective(SAID, KNOWN, BATCH)[1]) == ["kl0", "hard", "kl2"]
    assert objective.temperatures == (1.0, 4.0)


def test_state_and_parameters_of_terms_are_its_own() -> None:
    objective = Objective([("counting", Counting(), 2.0)])
    objective(SAID, {}, BATCH)[0].backward()
    assert [p.grad.item() for p in objective.parameters() if p.grad is not None] == [6.0]
    assert {name.rpartition(".")[2] for name in objective.state_dict()} == {"scale", "calls"}


@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_impossible_weights_are_refused(weight: float) -> None:
    with pytest.raises(UserError, match=r"the weight of 'kl' is .*; it must be 0 or more"):
        Objective([("kl", Kl(), weight)])


def test_nothing_to_match_is_refused() -> None:
    with pytest.raises(UserError, match="at least one term"):
        Objective([])
    for ask in (lambda o: o(SAID, KNOWN, BATCH), lambda o: o.target(KNOWN, BATCH)):
        with pytest.raises(UserError, match="every term of the objective has weight 0"):
            ask(Objective([("kl", Kl(), 0.0)]))


def test_soft_targets_are_averaged_by_weight() -> None:
    objective = Objective([("hard", CrossEntropy(), 1.0), ("kl", Kl(temperature=2.0), 3.0), ("off", NextItem(), 0.0)])
    found = objective.target(KNOWN, BATCH)
    one_hot = nn.functional.one_hot(BATCH["label"], 3).float()
    torch.testing.assert_close(found, (one_hot + 3.0 * torch.softmax(KNOWN["logits"], 1)) / 4.0)
    torch.testing.assert_close(found.sum(1), torch.ones(2))


@pytest.mark.parametrize("term", [NextItem(), Counting()])
def test_a_term_without_a_soft_target_is_named(term: Any) -> None:
    with pytest.raises(UserError, match="loss 'mine' offers no soft target, so a fitted student cannot learn from it"):
        Objective([("mine", term, 1.0)]).target(KNOWN, BATCH)


# Weights that move or are found


def test_scheduled_weights_and_temperatures_are_where_the_progress_is() -> None:
    rising, falling = Schedule("linear", 0.0, 2.0), Schedule("step", 8.0, 2.0, until=0.5)
    objective = Objective(
        [("hard", CrossEntropy(), 1.0), ("kl", Kl(temperature=8.0), rising)], schedules=[{}, {"temperature": falling}]
    )
    assert objective.temperatures == (2.0, 8.0)
    assert objective.needs_teacher
    for progress, weight, temperature in ((0.0, 0.0, 8.0), (0.25, 0.5, 8.0), (0.5, 1.0, 2.0), (1.0, 2.0, 2.0)):
        objective.at(progress)
        wanted = CrossEntropy()(SAID, KNOWN, BATCH) + weight * Kl(temperature=temperature)(SAID, KNOWN, BATCH)
        torch.testing.assert_close(objective(SAID, KNOWN, BATCH)[0], wanted)


def test_a_learned_weight_comes_to_the_inverse_of_its_term() -> None:
    objective = Objective([("hard", CrossEntropy(), "learned"), ("kl", Kl(temperature=2.0), "learned")])
    descent = torch.optim.Adam(objective.parameters(), lr=0.1)
    for _ in range(400):
        total, terms = objective(SAID, KNOWN, BATCH)
        descent.zero_grad()
        total.backward()
        descent.step()
    wanted = [1 / value.item() for value in terms.values()]
    torch.testing.assert_close(torch.exp(-objective.doubt), torch.tensor(wanted), rtol=1e-3, atol=1e-3)


def test_a_balanced_terms_gradient_is_as_long_as_the_first_fixed_ones() -> None:
    logits = SAID["logits"].clone().requires_grad_()
    objective = Objective([("kl", Kl(temperature=2.0), "balanced"), ("hard", CrossEntropy(), 0.5)])

    def norms() -> dict[str, float]:
        terms = objective({"logits": logits}, KNOWN, BATCH)[1]
        return {name: torch.autograd.grad(value, logits)[0].norm().item() for name, value in terms.items()}

    found = norms()
    objective.rebalance(found)
    whole = torch.autograd.grad(objective({"logits": logits}, KNOWN, BATCH)[0], logits)[0]
    hard, soft = (
        torch.autograd.grad(term({"logits": logits}, KNOWN, BATCH), logits)[0]
        for term in (CrossEntropy(), Kl(temperature=2.0))
    )
    torch.testing.assert_close(whole, 0.5 * hard + soft * (0.5 * hard.norm() / soft.norm()))
    before = objective.state_dict()["balance"].clone()
    objective.rebalance({"hard": 1.0, "kl": 0.0})  # a term without a gradient has nothing to be balanced
    assert torch.equal(objective.state_dict()["balance"], before)
    with pytest.raises(UserError, match="first term of a fixed weight"):
        Objective([("kl", Kl(), "balanced")])


def test_a_term_that_never_counts_is_neither_sized_nor_tapped() -> None:
    term = FitNet(student="a", teacher="b")
    objective = Objective([("hard", CrossEntropy(), 1.0), ("hidden", term, 0.0)], sources=["teacher", "peers"])
    assert (objective.student_taps, objective.teacher_taps, objective.company) == ((), (), frozenset())
    objective.size({"logits": torch.zeros(2, 3)}, {}, {"label": torch.zeros(2, dtype=torch.long)})
    assert not list(term.parameters())


@pytest.mark.parametrize("sources", [["teacher"], "peers", ["peer", "teacher"]])
def test_sources_that_cannot_be_are_refused_where_they_are_given(sources: Any) -> None:
    with pytest.raises(UserError, match="one a term was wanted, of 2: teacher, average, peers"):
        Objective([("kl", Kl(), 1.0), ("hard", CrossEntropy(), 1.0)], sources=sources)


def test_a_weight_that_is_neither_number_nor_known_word_is_refused() -> None:
    with pytest.raises(UserError, match="a weight is 'foo'"):
        Objective([("hard", CrossEntropy(), "foo")])  # type: ignore[list-item]
