import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.attack import unit
from limbeck.encoder import Encoder
from limbeck.encoders.picture import Picture
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.task import Problem
from limbeck.tasks.classify_image import TASK
from limbeck.tasks.recommend import TASK as RECOMMEND
from limbeck.types import Axis, Rows
from limbeck.verbs.audit import Audit, attackable, corrupted, drawn, right, targets, withstands

RADIUS = 0.04


class Linear(nn.Module):
    """Three classes by weights alone, so that what it withstands is known."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(16, 3) / 4)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        return {"logits": (unit(picture) - 0.5).flatten(1) @ self.weight}


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Pictures far enough from black and white that no attack is clipped, labelled as `Linear` sees most of them."""
    draw = np.random.default_rng(1)
    pixels = draw.integers(40, 216, (90, 4, 4), dtype=np.uint8)
    with torch.inference_mode():
        label = Linear()(torch.from_numpy(pixels)[:, None])["logits"].argmax(1).numpy()
    label[::10] = (label[::10] + 1) % 3
    made = []
    for one in pixels:
        file = io.BytesIO()
        Image.fromarray(one).save(file, "png")
        made.append(file.getvalue())
    table = pa.table({"picture": pa.array(made, pa.large_binary()), "label": [str(c) for c in label]})
    rows = Rows(table, np.arange(90) + 7, "here", {"picture": "picture", "label": "label"})
    return Problem(rows, rows, rows, Axis("label", ("0", "1", "2")), ("picture",))


@pytest.fixture
def model() -> Model:
    encoder = Encoder([Picture("picture", size=(4, 4), channels=1)])
    return Model("picture_convolution", {}, encoder, Linear().eval(), 3)


def margins(model: Model, problem: Problem) -> Tensor:
    """How far a value may be moved before some other class wins: its lead over the weights' L1 distance."""
    aims = targets(model, problem.test, TASK, problem)
    weight = model.module.weight.detach()
    with torch.inference_mode():
        logits = model.module(aims.picture)["logits"]
    own = logits.gather(1, aims.label[:, None])
    norms = (weight[:, aims.label].T[:, :, None] - weight[None]).abs().sum(1)
    leads = (own - logits) / norms.clamp(min=1e-9)
    return leads.scatter(1, aims.label[:, None], torch.inf).min(1).values


@pytest.mark.parametrize("attack", ["pgd-20", pytest.param("ensemble", marks=pytest.mark.slow)])
def test_a_linear_model_stands_where_its_lead_is_long_enough(attack: str, model: Model, problem: Problem) -> None:
    settings = Audit(iterations=20, queries=50)
    clean = right(model, problem.test, TASK, problem)
    aims = targets(model, problem.test, TASK, problem)
    held = withstands(model, aims, clean, attack, RADIUS, settings)
    margin = margins(model, problem).numpy()
    assert clean.tolist() == (margin > 0).tolist()
    sure = np.abs(margin - RADIUS) > 2e-3
    assert (~held[margin > RADIUS + 1e-4]).sum() == 0, "nobody can break these"
    assert 0.2 < (margin[clean] > RADIUS).mean() < 0.8
    # PGD climbs the cross-entropy, which may lead to another class than the nearest; the ensemble finds nearly all.
    missed = held[sure & (margin < RADIUS)].mean()
    assert missed <= (0.05 if attack == "ensemble" else 0.15)


def test_fgsm_is_one_step_of_the_whole_radius(model: Model, problem: Problem) -> None:
    aims = targets(model, problem.test, TASK, problem)
    clean = right(model, problem.test, TASK, problem)
    picture = unit(aims.picture).requires_grad_()
    loss = nn.functional.cross_entropy(model.module(picture)["logits"], aims.label)
    (slope,) = torch.autograd.grad(loss, picture)
    moved = (picture + RADIUS * slope.sign()).detach()
    wanted = (model.module(moved)["logits"].argmax(1) == aims.label).numpy()
    held = withstands(model, aims, clean, "fgsm", RADIUS, Audit())
    assert held.tolist() == (wanted & clean).tolist()


@pytest.mark.slow
def test_an_audit_leaves_the_model_and_random_numbers_as_they_are(model: Model, problem: Problem) -> None:
    aims = targets(model, problem.test, TASK, problem)
    standing = np.ones(90, bool)
    before, numbers, state = model.fingerprint, np.random.get_state(), torch.random.get_rng_state()
    first, again = (
        withstands(model, aims, standing, "ensemble", 0.02, Audit(iterations=3, queries=5)) for _ in range(2)
    )
    assert first.tolist() == again.tolist()
    assert model.fingerprint == before
    assert model.module.weight.requires_grad
    assert model.module.weight.grad is None
    assert torch.equal(state, torch.random.get_rng_state())
    assert (np.random.get_state()[1] == numbers[1]).all()


def test_rows_that_are_wrong_already_are_not_attacked(model: Model, problem: Problem, monkeypatch: Any) -> None:
    aims = targets(model, problem.test, TASK, problem)
    seen = []
    forward = Linear.forward
    monkeypatch.setattr(Linear, "forward", lambda self, picture: seen.append(len(picture)) or forward(self, picture))
    standing = np.zeros(90, bool)
    standing[[3, 50]] = True
    held = withstands(model, aims, standing, "pgd-20", RADIUS, Audit())
    assert set(seen) == {2}
    assert not held[~standing].any()


def test_corrupted_rows_keep_all_but_their_pictures(problem: Problem) -> None:
    one, same, other = (corrupted(problem.test, "noise", 3, seed) for seed in (0, 0, 1))
    assert one.table.drop(["picture"]) == problem.test.table.drop(["picture"])
    assert one.id.tolist() == problem.test.id.tolist()
    assert one.table == same.table
    assert one.table != other.table
    assert len({one.fingerprint, other.fingerprint, problem.test.fingerprint}) == 3
    # A row's noise is its own: in a sample it is the same as among all.
    assert corrupted(problem.test.slice(5, 7), "noise", 3, 0).table == one.slice(5, 7).table


def test_what_has_no_gradients_cannot_be_attacked(model: Model) -> None:
    assert attackable(model) is model

    class Brought:
        reads = ("picture",)
        fingerprint = "brought"

    assert attackable(Brought()) is None  # type: ignore[arg-type]


def test_only_labelled_rows_are_drawn_and_no_more_than_asked_for(problem: Problem) -> None:
    bare = pa.array([None if i < 30 else label for i, label in enumerate(problem.test.column("label"))])
    rows = Rows(problem.test.table.set_column(1, "label", bare), problem.test.id, "here", problem.test.roles)
    found = drawn(rows, TASK, problem, Audit(rows=20))
    assert len(found) == 20
    assert found.id.min() >= 37
    assert len(drawn(rows, TASK, problem, Audit(rows=500))) == 60
    with pytest.raises(UserError, match="where pictures are classified; 'recommend' does something else"):
        drawn(rows, RECOMMEND, problem, Audit())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"queries": -1}, "queries -1"),
        ({"radii": (8.0,)}, r"8/255 is 0\.0314"),
        ({"radii": (0.1, 0.05)}, "rising"),
        ({"severities": (0, 1)}, "rising ones of 1 to 5"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Audit(**wrong)
