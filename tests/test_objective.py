import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.losses.catalogue_cross_entropy import CatalogueCrossEntropy
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.listwise_kl import ListwiseKl
from limbeck.losses.next_item import NextItem
from limbeck.objective import Objective, Term

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
    assert not any(value.requires_grad for value in terms.values())


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


def test_the_twin_keeps_the_terms_that_need_no_teacher() -> None:
    hard = CrossEntropy()
    objective = Objective([("kl", Kl(), 0.9), ("hard", hard, 0.1), ("next", NextItem(), 0.0)])
    twin = objective.without_teacher(NextItem())
    assert twin.names == ["hard"]
    assert twin.weights == [1.0]  # as heavy as the student's whole objective
    assert twin.terms[0] is hard
    assert objective.needs_teacher
    assert not twin.needs_teacher


def test_where_no_such_term_is_left_the_twin_gets_the_hard_loss() -> None:
    hard = CrossEntropy()
    twin = Objective([("kl", Kl(), 0.9), ("other", CrossEntropy(), 0.0)]).without_teacher(hard)
    assert (twin.names, twin.weights, twin.terms[0]) == (["hard"], [0.9], hard)


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


def test_hard_losses_say_that_they_need_no_teacher() -> None:
    needs = {kind: kind.needs_teacher for kind in (CatalogueCrossEntropy, CrossEntropy, Kl, ListwiseKl, NextItem)}
    assert [kind.__name__ for kind, needed in needs.items() if needed] == ["Kl", "ListwiseKl"]
