"""Students that learn from their own average and from networks beside them, against loops written by hand."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.loader import TableLoader
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.fit_net import FitNet
from limbeck.losses.kl import Kl
from limbeck.losses.squared_error import SquaredError
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.verbs.distill import Watch, distill

torch.set_num_threads(1)
ROWS, WIDTH, CLASSES = 24, 5, 3
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, WIDTH)).astype(np.float32)
LABEL = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
TRAINING = Training(
    epochs=3, batch_size=8, optimizer="SGD", learning_rate=0.3, schedule="constant", warmup=0.0, device="cpu"
)


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 6)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.tanh(self.first(x))))


def nets(count: int, dropout: float = 0.0) -> list[Net]:
    torch.manual_seed(0)
    return [Net(dropout) for _ in range(count)]


def loader() -> TableLoader:
    return TableLoader({"x": X, "label": LABEL}, np.arange(ROWS), batch_size=8, seed=1)


def mutual(temperature: float = 1.0) -> Objective:
    terms = [("hard", CrossEntropy(), 1.0), ("kl", Kl(temperature=temperature), 1.0)]
    return Objective(terms, sources=["teacher", "peers"])


def batches() -> list[Mapping[str, Tensor]]:
    return [batch for epoch in range(TRAINING.epochs) for batch in loader().batches(epoch)]


def descend(net: nn.Module, loss: Tensor) -> None:
    for parameter, gradient in zip(net.parameters(), torch.autograd.grad(loss, [*net.parameters()]), strict=True):
        parameter.data -= TRAINING.learning_rate * gradient


@pytest.mark.parametrize("count", [2, 3])
def test_peers_step_in_turn_as_in_deep_mutual_learning(count: int) -> None:
    ours = nets(count)
    theirs = deepcopy(ours)
    distill(ours[0], loader(), objective=mutual(), training=TRAINING, peers=ours[1:])
    for batch in batches():
        for net in theirs:
            logits = net(batch["x"])
            others = [other(batch["x"]).detach() for other in theirs if other is not net]
            apart = [
                functional.kl_div(logits.log_softmax(1), other.softmax(1), reduction="batchmean") for other in others
            ]
            descend(net, functional.cross_entropy(logits, batch["label"]) + sum(apart) / len(apart))
    for mine, hand in zip(ours, theirs, strict=True):
        for a, b in zip(mine.parameters(), hand.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_average_teaches_as_a_mean_teacher_does() -> None:
    (ours,) = nets(1)
    theirs, decay = deepcopy(ours), 0.9
    terms = [("hard", CrossEntropy(), 1.0), ("consistency", SquaredError(signal="logits"), 0.5)]
    objective = Objective(terms, sources=["teacher", "average"])
    distill(ours, loader(), objective=objective, training=TRAINING.model_copy(update={"ema": decay}))
    averaged = deepcopy(theirs)
    for step, batch in enumerate(batches()):
        logits = theirs(batch["x"])
        apart = (logits - averaged(batch["x"]).detach()).square().mean(1).mean()
        descend(theirs, functional.cross_entropy(logits, batch["label"]) + 0.5 * apart)
        for a, b in zip(averaged.parameters(), theirs.parameters(), strict=True):
            a.data = b.data.clone() if step == 0 else decay * a.data + (1 - decay) * b.data
    for a, b in zip(ours.parameters(), averaged.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_hidden_state_may_be_learnt_from_a_peer() -> None:
    ours = nets(2)
    term = FitNet(student="first", teacher="first")
    objective = Objective([("hard", CrossEntropy(), 1.0), ("hidden", term, 1.0)], sources=["teacher", "peers"])
    taught = distill(ours[0], loader(), objective=objective, training=TRAINING, peers=ours[1:])
    assert all(value is not None and value > 0 for value in taught.terms["hidden"])
    assert not any(part._forward_hooks for net in ours for part in net.modules())


def test_whoever_is_learnt_from_answers_without_dropout_and_goes_on_training_with_it() -> None:
    heard: list[tuple[bool, bool]] = []

    class Listening(Net):
        def forward(self, x: Tensor) -> Tensor:
            heard.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    ours = nets(2, dropout=0.5)
    ours[1].__class__ = Listening
    distill(ours[0], loader(), objective=mutual(), training=TRAINING.model_copy(update={"epochs": 1}), peers=ours[1:])
    learning = heard[-6:]
    assert learning == [(False, False), (True, True)] * 3


@pytest.mark.parametrize("accumulate", [1, 4])
def test_parts_of_a_batch_teach_peers_as_the_whole_does(accumulate: int) -> None:
    found = []
    for parts in (1, accumulate):
        ours = nets(2)
        distill(
            ours[0],
            loader(),
            objective=mutual(2.0),
            training=TRAINING.model_copy(update={"accumulate": parts}),
            peers=ours[1:],
        )
        found.append(ours)
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(whole.last.weight, part.last.weight, rtol=1e-4, atol=1e-6)


def test_a_cohort_that_was_interrupted_goes_on_bit_for_bit(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def taught(folder: Path | None, stop: int | None) -> list[Net]:
        looks = 0

        def validate(net: Any) -> float:
            nonlocal looks
            looks += 1
            if looks == stop:
                raise Stop
            return float(net.first.weight.detach().std())

        ours = nets(3, dropout=0.3)
        terms = [("hard", CrossEntropy(), 1.0), ("peers", Kl(), 1.0), ("average", Kl(), 0.5)]
        objective = Objective(terms, sources=["teacher", "peers", "average"])
        training = TRAINING.model_copy(update={"ema": 0.8, "checkpoint_seconds": 0.0})
        watch = Watch(validate=validate, folder=folder)
        distill(ours[0], loader(), objective=objective, training=training, watch=watch, peers=ours[1:])
        return ours

    whole = taught(None, None)
    with pytest.raises(Stop):
        taught(tmp_path, 3)
    for mine, other in zip(whole, taught(tmp_path, None), strict=True):
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": mutual()}, "a term learns from peers, and there are none"),
        ({"peers": nets(1)}, "no term learns from the peers"),
        (
            {"objective": Objective([("kl", Kl(), 1.0)], sources=["average"])},
            "say how slowly they move, such as training.ema: 0.999",
        ),
    ],
)
def test_a_company_that_does_not_fit_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    told: dict[str, Any] = {"objective": Objective([("hard", CrossEntropy(), 1.0)]), "training": TRAINING, **changes}
    with pytest.raises(UserError, match=words):
        distill(nets(1)[0], loader(), **told)


def test_a_fitted_student_has_no_company() -> None:
    objective = Objective([("kl", Kl(), 1.0)], sources=["peers"])
    with pytest.raises(UserError, match="no average and no peers"):
        objective.target({"logits": torch.zeros(1, 3)}, {})


def test_what_is_learnt_from_others_asks_nothing_of_the_teacher() -> None:
    terms = [("kl", Kl(temperature=3.0), 1.0), ("own", Kl(temperature=5.0), 1.0)]
    both = Objective(terms, sources=["teacher", "average"])
    assert (both.needs_teacher, both.temperatures, both.company) == (True, (3.0,), frozenset({"average"}))
    alone = Objective(terms[1:], sources=["peers"])
    assert (alone.needs_teacher, alone.temperatures, alone.teacher_taps) == (False, (), ())
