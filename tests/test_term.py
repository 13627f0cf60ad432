from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.catalogue_cross_entropy import CatalogueCrossEntropy
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.listwise_kl import ListwiseKl
from limbeck.losses.next_item import NextItem
from limbeck.objective import Objective
from limbeck.term import HiddenTerm, RowTerm, Term

SAID = {"logits": torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]])}
KNOWN = {"logits": torch.tensor([[2.0, 2.0, 1.0], [0.0, 1.0, 3.0]])}
BATCH = {"label": torch.tensor([1, 2]), "outputs": torch.tensor([3, 3])}


@pytest.mark.parametrize("term", [CrossEntropy(), Kl(temperature=2.0)])
def test_a_rows_weight_weighs_hard_and_soft_terms_alike(term: Term) -> None:
    one, other = (term({k: v[i : i + 1] for k, v in SAID.items()}, {k: v[i : i + 1] for k, v in KNOWN.items()},
                       {k: v[i : i + 1] for k, v in BATCH.items()}).item() for i in (0, 1))  # fmt: skip
    found = term(SAID, KNOWN, {**BATCH, "weight": torch.tensor([3.0, 1.0])}).item()
    assert found == pytest.approx((3 * one + other) / 4)
    assert term(SAID, KNOWN, {**BATCH, "weight": torch.tensor([0.0, 5.0])}).item() == pytest.approx(other)
    assert term(SAID, KNOWN, {**BATCH, "weight": torch.zeros(2)}).item() == 0.0


class Endless(RowTerm):
    """Loses beyond measure where nothing counts."""

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return torch.where(batch["label"] > 1, torch.inf, student["logits"].sum(1))

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return batch["label"] <= 1


def test_what_does_not_count_is_never_added_up() -> None:
    assert Endless()(SAID, {}, BATCH).item() == 3.0
    assert Endless().denominator({}, BATCH).item() == 1.0
    assert Endless().denominator({}, {**BATCH, "weight": torch.tensor([0.5, 9.0])}).item() == 0.5


def test_hard_losses_say_that_they_need_no_teacher() -> None:
    needs = {kind: kind.needs_teacher for kind in (CatalogueCrossEntropy, CrossEntropy, Kl, ListwiseKl, NextItem)}
    assert [kind.__name__ for kind, needed in needs.items() if needed] == ["Kl", "ListwiseKl"]


class Hint(HiddenTerm):
    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        return torch.stack([(mine - theirs).square().mean() for mine, theirs in self.pairs(student, teacher)]).sum()


def test_a_hidden_terms_projection_is_its_own_and_the_teachers_states_get_no_gradient() -> None:
    objective = Objective([("hint", Hint(student="a.b", teacher=("c",)), 1.0)])
    assert (objective.student_taps, objective.teacher_taps) == (("a.b",), ("c",))
    mine, theirs = torch.randn(4, 3, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    said, known = {"hidden.a.b": mine}, {"hidden.c": theirs}
    assert not list(objective.parameters())
    objective.size(said, known, {})
    assert [tuple(p.shape) for p in objective.parameters()] == [(5, 3), (5,)]
    objective(said, known, {})[0].backward()
    assert mine.grad is not None
    assert theirs.grad is None
    assert all(p.grad is not None for p in objective.parameters())
    with pytest.raises(UserError, match="student names 2 parts and teacher 1"):
        Hint(student=("a", "b"), teacher="c")
