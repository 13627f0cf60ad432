"""Parts of a batch make the whole: values and gradients, whatever counts unevenly."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from limbeck.candidate import ListTerm
from limbeck.loader import parts_of
from limbeck.losses.catalogue_cross_entropy import CatalogueCrossEntropy
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.linear_head import LinearHead
from limbeck.losses.sequence_kd import SequenceKd
from limbeck.losses.squared_error import SquaredError
from limbeck.losses.uld import Uld
from limbeck.objective import Objective
from limbeck.share import Later, shares_of
from limbeck.term import Term
from limbeck.weight import SampleWeight, Weight
from tests.losses import laws

ROWS, STEPS, CLASSES = 9, 4, 5


class Left(ListTerm):
    """Squared scores of the items that are left."""

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        return torch.where(torch.isneginf(teacher), 0.0, student**2).sum(1)


def drawn() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Rows of which the first count for least in every way."""
    flat, steps = laws.drawn(ROWS, CLASSES), laws.drawn(ROWS, STEPS, CLASSES, seed=1)
    states = laws.drawn(ROWS, STEPS, 3, seed=2, count=1)[0]
    weight = laws.drawn(CLASSES, 3, seed=3, count=1)[0]
    student = {"logits": flat[0], "steps": steps[0], "scores": flat[0].tanh(), "input.head": states}
    for value in student.values():
        value.requires_grad_()
    student["weight.head"] = weight.requires_grad_()
    scores = flat[1].clone()
    scores[:4] = float("-inf")
    tokens = torch.where(torch.arange(STEPS) < torch.arange(ROWS).unsqueeze(1) - 3, 2, -1)
    teacher = {"logits": flat[1], "steps": steps[1], "scores": scores, "tokens": tokens}
    label = torch.tensor([-1, -1, -1, -1, 2, -1, 0, 1, 2])
    targets = torch.stack([label, torch.full((ROWS,), -1)], 1)
    mask = torch.arange(STEPS) <= torch.arange(ROWS).unsqueeze(1) // 2
    return student, teacher, {"label": label, "targets": targets, "mask": mask, "weight": torch.arange(ROWS) % 4 + 0.5}


TERMS: list[tuple[str, Term, Weight]] = [
    ("hard", CrossEntropy(), 1.0),
    ("kl", Kl(temperature=2.0), 0.5),
    ("sure", Kl(temperature=2.0), "learned"),
    ("steps", Kl(signal="steps"), 0.3),
    ("near", SquaredError(signal="steps"), "balanced"),
    ("words", SequenceKd(), 0.7),
    ("ranks", Uld(), 2.0),
    ("items", CatalogueCrossEntropy(), "learned"),
    ("left", Left(mask_seen=False), 1.5),
    ("head", LinearHead(student="head", signal="steps"), 1.0),
]


def summed(
    objective: Objective, weighed: bool, masked: bool, count: int
) -> tuple[Tensor, dict[str, Tensor], list[Tensor | None]]:
    """The value, each term's, and the gradients, of a batch in so many parts."""
    student, teacher, batch = drawn()
    batch = {n: v for n, v in batch.items() if (n != "weight" or weighed) and (n != "mask" or masked)}
    leaves = [*student.values(), *objective.parameters()]
    weight = student.pop("weight.head")
    parts = [
        [{**part, **({"weight.head": weight} if i == 0 else {})} for part in parts_of(said, count)]
        for i, said in enumerate((student, teacher, batch))
    ]
    objective.size(parts[0][0], parts[1][0], parts[2][0])
    pairs = [(part, Later(lambda known=known: known)) for part, known in zip(parts[2], parts[1], strict=True)]
    shares = shares_of(objective, pairs, lambda here: here)
    total = torch.zeros(())
    values = dict.fromkeys(objective.names, torch.zeros(()))
    for mine, theirs, rows, share in zip(*parts, shares, strict=True):
        value, terms = objective(mine, theirs, rows, share)
        total = total + value
        values = {name: values[name] + terms[name].detach() * share[name] for name in values}
    return total.detach(), values, list(torch.autograd.grad(total, leaves, allow_unused=True))


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "all steps"])
@pytest.mark.parametrize("weighed", [True, False], ids=["weighed", "alike"])
@pytest.mark.parametrize("count", [2, 3, ROWS])
def test_the_parts_of_a_batch_make_the_whole(weighed: bool, masked: bool, count: int) -> None:
    kinds = {"kl": SampleWeight("correctness", floor=0.1), "sure": SampleWeight("confidence")}
    objective = Objective(TERMS, sample_weights=[kinds.get(name) for name, _, _ in TERMS])
    with torch.no_grad():
        objective.doubt += torch.linspace(-1, 1, len(TERMS))
        objective.balance += torch.linspace(0, 1, len(TERMS))
    student, teacher, batch = drawn()
    batch = {n: v for n, v in batch.items() if (n != "weight" or weighed) and (n != "mask" or masked)}
    leaves = [*student.values(), *objective.parameters()]
    objective.size(student, teacher, batch)
    whole, terms = objective(student, teacher, batch)
    wanted = torch.autograd.grad(whole, leaves, allow_unused=True)
    value, values, found = summed(objective, weighed, masked, count)
    torch.testing.assert_close(value, whole.detach(), rtol=1e-5, atol=1e-6)
    for name, one in terms.items():
        torch.testing.assert_close(values[name], one.detach(), rtol=1e-5, atol=1e-6)
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_batch_in_which_nothing_counts_says_0_and_moves_only_what_is_doubted() -> None:
    objective = Objective([("hard", CrossEntropy(), "learned"), ("kl", Kl(), 0.0)])
    batch = {"label": torch.full((4,), -1)}
    parts = [(part, Later(dict)) for part in parts_of(batch, 2)]
    total = torch.zeros(())
    for share in shares_of(objective, parts, lambda here: here):
        assert set(share) == {"hard", ""}
        value, _ = objective({"logits": torch.zeros(2, 3)}, {}, parts[0][0], share)
        total = total + value
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0.0
    assert objective.doubt.grad is not None
    assert objective.doubt.grad.tolist() == [1.0, 0.0]


def test_a_teacher_is_asked_once_and_only_by_who_looks() -> None:
    asked = []

    def answer() -> Mapping[str, Tensor]:
        asked.append(1)
        return {"logits": torch.zeros(2, 3)}

    later = Later(answer)
    batch = {"label": torch.tensor([0, -1])}
    Objective([("hard", CrossEntropy(), 1.0), ("kl", Kl(), 1.0)]).denominators(later, batch)
    assert not asked
    kinds = [SampleWeight("correctness")]
    found = Objective([("kl", Kl(), 1.0)], sample_weights=kinds).denominators(later, batch)
    assert found["kl"].item() == 2.0
    assert (list(later), len(later), asked) == (["logits"], 1, [1])


def test_shortened_knowledge_says_ahead_how_sure_the_teacher_is() -> None:
    logits = laws.drawn(4, CLASSES)[1]
    objective = Objective([("kl", Kl(temperature=1.0), 1.0)], sample_weights=[SampleWeight("confidence")])
    parts = [
        (rows, Later(lambda rows=rows: laws.stored(logits[rows["at"]], 2, 1.0)))
        for rows in parts_of({"at": torch.arange(4)}, 2)
    ]
    sure = torch.softmax(logits, 1).amax(1)
    found = [share["kl"].item() for share in shares_of(objective, parts, lambda here: here)]
    assert found == pytest.approx(
        [(sure[:2].sum() / sure.sum()).item(), (sure[2:].sum() / sure.sum()).item()], rel=1e-4
    )


def test_a_loss_between_rows_shares_by_rows() -> None:
    class Pairs(Term):
        def forward(
            self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
        ) -> Tensor:
            return nn.functional.pdist(student["logits"]).mean()

    batch = {"x": torch.zeros(5), "weight": torch.arange(5.0)}
    parts = [(part, Later(dict)) for part in parts_of(batch, 2)]
    shares = shares_of(Objective([("pairs", Pairs(), 1.0)]), parts, lambda here: here)
    assert [share["pairs"].item() for share in shares] == pytest.approx([0.4, 0.6])
