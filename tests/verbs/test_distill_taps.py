"""Distilling inner states, and objectives whose weights move."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.knowledge import Knowledge
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.taps import Taps
from limbeck.term import HiddenTerm
from limbeck.types import Batch, Rows, Signals
from limbeck.verbs.distill import Taught, distill
from limbeck.verbs.label import Labelling, label
from limbeck.weight import Schedule

ROWS = 60
X = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
LABEL = (X[:, 0] > 0).long()


class Hint(HiddenTerm):
    """Mean squared distance of projected states."""

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        return torch.stack([(mine - theirs).square().mean() for mine, theirs in self.pairs(student, teacher)]).sum()


def net(width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def batches() -> list[dict[str, Tensor]]:
    return [{"x": X[i : i + 20], "label": LABEL[i : i + 20], "id": torch.arange(i, i + 20)} for i in range(0, ROWS, 20)]


class Tapped:
    """The teacher as a predictor that also says its first layer's states."""

    reads = ("a", "b", "c", "d")
    fingerprint = "tapped"

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher

    def __call__(self, batch: Batch) -> Signals:
        x = torch.tensor(np.stack([batch[name] for name in self.reads], 1))
        with torch.no_grad(), Taps(self.teacher, ["1"]) as taps:
            said = {"logits": self.teacher(x), **taps.read()}
        return Signals({k: v.numpy() for k, v in said.items()}, {"logits": "logits", "hidden.1": "embedding"})


def run(teacher: Any, training: Training, *, weight: Any = 0.5) -> tuple[nn.Module, Taught, Objective]:
    objective = Objective([("hard", CrossEntropy(), 1.0), ("hint", Hint(student="1", teacher="1"), weight)])
    student = net(3, seed=1)
    taught = distill(student, batches(), teacher=teacher, objective=objective, training=training)
    return student, taught, objective


def test_states_are_learnt_through_a_projection_that_is_the_objectives_own() -> None:
    teacher = net(9, seed=0)
    student, taught, objective = run(teacher, Training(epochs=30, learning_rate=0.02))
    assert {name for name, _ in student.named_parameters()} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not any(module._forward_hooks for net_ in (student, teacher) for module in net_.modules())
    assert [tuple(p.shape) for p in objective.parameters()] == [(9, 3), (9,)]
    first, last = (taught.terms["hint"][epoch] for epoch in (0, -1))
    assert first is not None
    assert last is not None
    assert last < 0.6 * first


def test_stored_and_live_states_teach_the_same(tmp_path: Path) -> None:
    teacher = net(9, seed=0).eval()
    table = pa.table({name: X[:, i].numpy() for i, name in enumerate(Tapped.reads)})
    rows = Rows(table, np.arange(ROWS), "here")
    store = label(Tapped(teacher), rows, tmp_path, Labelling(Knowledge(dtype="float32")))
    training = Training(epochs=3, learning_rate=0.02)
    live, stored = (run(source, training)[0] for source in (teacher, store))
    for (name, mine), other in zip(live.named_parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6, msg=name)


def test_the_curves_tell_how_long_each_terms_gradient_is() -> None:
    _, taught, _ = run(net(9, seed=0), Training(epochs=20, learning_rate=0.01))
    found = taught.terms["gradient_norm.hint"]
    assert [i for i, value in enumerate(found) if value is not None] == [0, 16]  # steps 0 and 50 of three an epoch
    assert all(value > 0 for value in found if value is not None)
    assert len(found) == len(taught.terms["loss"]) == 20


def test_a_weight_that_rises_from_nothing_lets_its_term_in_when_it_is_due() -> None:
    rising = Schedule("step", 0.0, 1.0, until=0.5)
    objective = Objective([("hard", CrossEntropy(), 1.0), ("kl", Kl(temperature=2.0), rising)])
    told = distill(net(3, seed=1), batches(), teacher=net(9, seed=0), objective=objective, training=Training(epochs=4))
    assert [value is None for value in told.terms["kl"]] == [True, True, False, False]


def test_a_balanced_term_presses_as_the_first_does() -> None:
    _, taught, objective = run(net(9, seed=0), Training(epochs=1, learning_rate=1e-6), weight="balanced")
    hard, hint = (taught.terms[f"gradient_norm.{name}"][0] for name in ("hard", "hint"))
    assert hard is not None
    assert hint is not None
    assert objective.state_dict()["balance"].tolist() == pytest.approx([1.0, hard / hint], rel=1e-5)


def test_a_part_that_is_not_there_is_named_before_any_step() -> None:
    with pytest.raises(UserError, match="no part 'body' of Sequential to tap"):
        distill(
            net(3, seed=1),
            batches(),
            teacher=net(9, seed=0),
            objective=Objective([("hint", Hint(student="body", teacher="1"), 1.0)]),
        )
