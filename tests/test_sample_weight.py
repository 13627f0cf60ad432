import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.relational import Relational
from limbeck.losses.squared_error import SquaredError
from limbeck.objective import Objective
from limbeck.sample_weight import sample_weights
from limbeck.term import Term
from limbeck.weight import SampleWeight
from tests.losses import laws
from tests.losses.naive import softmax

STUDENT, TEACHER = laws.drawn(7, 5)
LABEL = torch.tensor([0, 1, 2, 3, 4, -1, 0])


def naive(kind: SampleWeight) -> list[float]:
    found = []
    for logits, label in zip(TEACHER.tolist(), LABEL.tolist(), strict=True):
        if kind.by == "confidence":
            own = max(math.exp(x) for x in logits) / sum(math.exp(x) for x in logits)
        else:
            own = 1.0 if label < 0 or logits.index(max(logits)) == label else 0.0
        found.append(max(own, kind.floor))
    return found


KINDS = [SampleWeight("confidence"), SampleWeight("confidence", floor=0.9), SampleWeight("correctness"),
         SampleWeight("correctness", floor=0.25)]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_is_the_mean_of_its_rows_by_what_the_teacher_makes_of_them_and_by_their_own_weight(
    kind: SampleWeight,
) -> None:
    own = torch.arange(7) % 3 + 0.5
    objective = Objective([("kl", Kl(temperature=2.0), 3.0)], sample_weights=[kind])
    student = STUDENT.clone().requires_grad_()
    found = objective({"logits": student}, {"logits": TEACHER}, {"label": LABEL, "weight": own})[1]["kl"]
    weights = [float(w) * n for w, n in zip(own, naive(kind), strict=True)]
    losses = []
    for z, t in zip(STUDENT.double(), TEACHER.double(), strict=True):
        p, q = softmax(t, 2.0), softmax(z, 2.0)
        losses.append(4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    wanted = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    amount = objective.denominators({"logits": TEACHER}, {"label": LABEL, "weight": own})["kl"]
    assert amount.item() == pytest.approx(sum(weights), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, student)
    there = torch.tensor(weights) > 0
    assert gradient[there].any(1).all()
    assert not gradient[~there].any()


def test_no_gradient_reaches_the_teacher_by_its_confidence() -> None:
    teacher = TEACHER.clone().requires_grad_()
    objective = Objective([("kl", Kl(), 1.0)], sample_weights=[SampleWeight("confidence")])
    objective({"logits": STUDENT.clone().requires_grad_()}, {"logits": teacher}, {})[0].backward()
    assert teacher.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_knowledge_of_the_best_classes_says_as_much(kind: SampleWeight) -> None:
    said = laws.stored(TEACHER, 2, 1.0)
    found = sample_weights(kind, said, {"label": LABEL})
    torch.testing.assert_close(found, torch.tensor(naive(kind)), rtol=1e-5, atol=1e-5)


def test_confidence_asks_for_the_tail_at_1() -> None:
    terms: list[tuple[str, Term, float]] = [("kl", Kl(temperature=2.0), 1.0), ("near", SquaredError(), 1.0)]
    assert Objective(terms, sample_weights=[SampleWeight("confidence"), None]).temperatures == (1.0, 2.0)
    assert Objective(terms, sample_weights=[SampleWeight("correctness"), None]).temperatures == (2.0,)
    with pytest.raises(UserError, match="label again"):
        sample_weights(SampleWeight("confidence"), laws.stored(TEACHER, 2, 4.0), {})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "it says nothing"),
        ({"values": torch.zeros(2)}, r"reads the teacher's 'logits' of shape \(B, C\), and it says values \(2,\)"),
        ({"logits": torch.zeros(2, 3, 4)}, r"it says logits \(2, 3, 4\)"),
        ({"logits": torch.zeros(2, 4)}, "there is no 'label'"),
    ],
)
def test_a_teacher_without_classes_and_rows_without_labels_are_refused(said: dict[str, Tensor], words: str) -> None:
    with pytest.raises(UserError, match=words):
        sample_weights(SampleWeight("correctness"), said, {})


def test_only_rows_of_losses_that_learn_from_a_teacher_are_weighed() -> None:
    between = Relational(student="a", teacher="b")
    for term, words in ((between, "compares rows with one another"), (CrossEntropy(), "learns from no teacher")):
        with pytest.raises(UserError, match=f"'mine' {words}.*sample_weight"):
            Objective([("mine", term, 1.0)], sample_weights=[SampleWeight("confidence")])
    with pytest.raises(UserError, match="a fitted student has one target"):
        Objective([("kl", Kl(), 1.0)], sample_weights=[SampleWeight("confidence")]).target({"logits": TEACHER}, {})


@pytest.mark.parametrize("wrong", [{"by": "sureness"}, {"by": "confidence", "floor": 1.5}])
def test_impossible_sample_weights_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"sample_weight is by 'sureness'|floor is 1\.5"):
        SampleWeight(**wrong)  # type: ignore[arg-type]  # that is the point
