import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from limbeck.errors import UserError
from limbeck.losses.catalogue_cross_entropy import CatalogueCrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.listwise_kl import ListwiseKl
from limbeck.losses.next_item import NextItem
from limbeck.models.ease import Ease
from limbeck.objective import Objective
from limbeck.types import Array, Key, Signals
from limbeck.verbs import fit as room
from limbeck.verbs.fit import fit

ROWS, ITEMS = 23, 31
RANDOM = np.random.default_rng(0)
TARGETS = np.where(
    np.arange(4) < RANDOM.integers(0, 5, (ROWS, 1)),
    RANDOM.permuted(np.tile(np.arange(ITEMS), (ROWS, 1)), axis=1)[:, :4],
    -1,
)
ID = np.arange(ROWS) * 7 + 3
KEY = Key("here", ID, np.zeros(ROWS, np.int64))


class Family:
    """Keeps what it is asked to fit."""

    def fit(self, module: nn.Module, inputs: Any, target: Any, weight: Array | None) -> None:
        self.inputs, self.target, self.weight = inputs, target, weight


class Memory:
    """A teacher who knows random scores of every id."""

    scores = RANDOM.normal(size=(ROWS, ITEMS)).astype(np.float32)

    def gather(self, id: Array, view: Array | None = None) -> Signals:
        return Signals({"scores": self.scores[(id - 3) // 7]}, {"scores": "scores"})


class Shortened(Memory):
    def gather(self, id: Array, view: Array | None = None) -> Signals:
        values = np.zeros((len(id), 2), np.float32)
        return Signals({"scores.ids": values.astype(np.int64), "scores.values": values}, {"scores": "scores"})


def asked(objective: Objective, teacher: Any = None, **targets: Any) -> Family:
    family, module = Family(), nn.Dropout().train()
    inputs = {"history": np.zeros((ROWS, 1), np.int64)}
    fit(
        family,
        module,
        inputs,
        {"targets": TARGETS, **targets},
        key=KEY,
        outputs=ITEMS,
        objective=objective,
        teacher=teacher,
    )
    assert not module.training
    assert family.inputs is inputs
    return family


def multi_hot() -> Array:
    hot = np.zeros((ROWS, ITEMS))
    for row, items in enumerate(TARGETS):
        hot[row, items[items >= 0]] = 1.0
    return hot


def soft(temperature: float) -> Array:
    powers = np.exp(Memory.scores.astype(np.float64) / temperature)
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("chunk", [5, 4096])
def test_hard_targets_are_multi_hot_and_sparse(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK", chunk)
    family = asked(Objective([("hard", CatalogueCrossEntropy(), 0.3)]))
    assert sparse.issparse(family.target)
    assert np.array_equal(family.target.toarray(), multi_hot())
    assert family.weight is None


@pytest.mark.parametrize("chunk", [5, 4096])
def test_soft_targets_are_the_weighted_mean_of_the_terms(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK", chunk)
    objective = Objective(
        [("hard", CatalogueCrossEntropy(), 1.0), ("soft", ListwiseKl(temperature=0.5, mask_seen=False), 3.0)]
    )
    family = asked(objective, Memory())
    np.testing.assert_allclose(family.target, (multi_hot() + 3 * soft(0.5)) / 4, rtol=1e-5, atol=1e-7)


def test_views_of_a_row_are_taught_by_what_the_teacher_said_of_that_view(monkeypatch: pytest.MonkeyPatch) -> None:
    class Augmented(Memory):
        def gather(self, id: Array, view: Array | None = None) -> Signals:
            assert view is not None
            return Signals({"scores": self.scores[(id - 3) // 7] * (1 - view)[:, None]}, {"scores": "scores"})

    monkeypatch.setattr(room, "CHUNK", 5)
    monkeypatch.setattr(sys.modules[__name__], "KEY", Key("here", ID, np.arange(ROWS) % 2))
    family = asked(Objective([("soft", ListwiseKl(temperature=0.5, mask_seen=False), 1.0)]), Augmented())
    np.testing.assert_allclose(family.target[0::2], soft(0.5)[0::2], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(family.target[1::2], 1 / ITEMS, rtol=1e-5)


def test_pieces_of_few_and_of_many_numbers_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sharp(Memory):
        def gather(self, id: Array, view: Array | None = None) -> Signals:
            first = (id < 50)[:, None]  # so sure that all else is exactly 0
            return Signals(
                {"scores": np.where(first, 1e4 * self.scores[: len(id)], 0.0).astype(np.float32)}, {"scores": "scores"}
            )

    monkeypatch.setattr(room, "CHUNK", 5)
    family = asked(Objective([("soft", ListwiseKl(mask_seen=False), 1.0)]), Sharp())
    assert family.target.shape == (ROWS, ITEMS)
    whole = family.target.toarray() if sparse.issparse(family.target) else family.target
    np.testing.assert_allclose(whole.sum(1), np.ones(ROWS), rtol=1e-5)
    np.testing.assert_allclose(whole[-1], np.full(ITEMS, 1 / ITEMS), rtol=1e-5)


def test_weights_of_rows_are_passed_on() -> None:
    weight = RANDOM.uniform(size=ROWS).astype(np.float32)
    family = asked(Objective([("hard", CatalogueCrossEntropy(), 1.0)]), weight=weight)
    assert family.weight is weight


@pytest.mark.parametrize(
    ("term", "teacher"), [(NextItem(), None), (ListwiseKl(), Shortened()), (Kl(signal="scores"), Shortened())]
)
def test_a_term_without_a_soft_target_is_refused(term: Any, teacher: Any) -> None:
    with pytest.raises(UserError, match="loss 'mine' offers no soft target"):
        asked(Objective([("mine", term, 1.0)]), teacher)


def test_a_fitted_student_learns_what_its_teacher_says(tmp_path: Path) -> None:
    family = Ease(l2=0.1)
    module = family.module(None, ITEMS)  # type: ignore[arg-type]
    objective = Objective([("hard", CatalogueCrossEntropy(), 1.0)])
    inputs = {"history": np.where(TARGETS >= 0, TARGETS + 2, 0)}
    fit(family, module, inputs, {"targets": TARGETS}, key=KEY, outputs=ITEMS, objective=objective)
    direct = family.module(None, ITEMS)  # type: ignore[arg-type]
    family.fit(direct, inputs, multi_hot(), None)
    assert torch.equal(module.state_dict()["weight"], direct.state_dict()["weight"])
    assert module.state_dict()["weight"].any()
