"""A student that borrows its teacher's classifier, alone and in a whole run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from limbeck.artifact import Artifact
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.losses.fit_net import FitNet
from limbeck.models.borrowed_classifier import BorrowedClassifier
from limbeck.objective import Objective
from limbeck.recipe import Training, parse
from limbeck.run import run
from limbeck.verbs.distill import distill
from tests.models.test_picture_models import problem

BODY = {"model": "picture_convolution", "widths": (4, 6)}


class Teacher(nn.Module):
    def __init__(self, width: int = 12, *, bias: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, width), nn.ReLU())
        self.head = nn.Linear(width, 10, bias=bias)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(picture / 255.0))


def made(family: BorrowedClassifier) -> tuple[Encoder, nn.Module]:
    encoder = family.encoder(problem())
    torch.manual_seed(0)
    return encoder, family.module(encoder, 10)


def test_the_classifier_is_the_teachers_to_the_end_and_the_projection_learns() -> None:
    encoder, module = made(BorrowedClassifier(body=BODY, teacher_width=12))
    torch.manual_seed(1)
    teacher = Teacher()
    BorrowedClassifier(body=BODY, teacher_width=12).inherit(module, teacher)
    batch = {name: torch.from_numpy(value) for name, value in encoder.rows(problem().train).items()}
    term = FitNet(student="head.projection", teacher="body", project=False)
    before = module.head.projection[0].weight.detach().clone()
    taught = distill(
        module,
        [batch],
        teacher=teacher,
        objective=Objective([("fit_net", term, 1.0)]),
        training=Training(epochs=30, learning_rate=0.02, device="cpu"),
    )
    assert not list(term.parameters())
    assert torch.equal(module.head.classifier.weight, teacher.head.weight)
    assert torch.equal(module.head.classifier.bias, teacher.head.bias)
    assert not torch.equal(module.head.projection[0].weight, before)
    losses = [value for value in taught.terms["fit_net"] if value is not None]
    assert losses[-1] < 0.3 * losses[0]


def test_where_the_states_are_the_teachers_so_are_the_answers() -> None:
    _, module = made(BorrowedClassifier(body=BODY, teacher_width=12))
    teacher = Teacher()
    BorrowedClassifier(body=BODY, teacher_width=12).inherit(module, teacher)
    states = torch.randn(5, 12)
    assert torch.equal(module.head.classifier(states), teacher.head(states))


@pytest.mark.parametrize(
    ("settings", "teacher", "words"),
    [
        ({"teacher_width": 8}, Teacher(), "reads 12 numbers, and teacher_width is 8"),
        ({"teacher_width": 12}, Teacher(bias=False), "has no bias"),
        (
            {"teacher_width": 12, "classifier": "tail"},
            Teacher(),
            "the teacher has nothing at 'tail'; linear there: body.1, head",
        ),
        ({"teacher_width": 12, "classifier": "body"}, Teacher(), "the teacher has a Sequential at 'body'"),
    ],
)
def test_a_classifier_that_cannot_be_borrowed_is_named(settings: dict, teacher: Teacher, words: str) -> None:
    family = BorrowedClassifier(body=BODY, **settings)
    with pytest.raises(UserError, match=words):
        family.inherit(made(family)[1], teacher)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"body": {}, "teacher_width": 3}, "body names no model"),
        ({"body": BODY, "teacher_width": 0}, "teacher_width is 0 and factor 2"),
        ({"body": {"model": "pixel_linear"}, "teacher_width": 3}, "fitted in one go"),
        ({"body": {"model": "lenett"}, "teacher_width": 3}, "did you mean lenet"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        BorrowedClassifier(**settings)


def test_a_body_without_such_a_head_is_told() -> None:
    with pytest.raises(UserError, match="the body 'picture_convolution' has nothing at 'last'"):
        made(BorrowedClassifier(body=BODY, teacher_width=3, head="last"))


RECIPE = """
task: classify_image
data: {path: shop/}
protocols: [{name: random, split: {kind: random, shares: [6, 2, 2]}}]
teacher: {model: picture_convolution, widths: [8, 12], allow_weak: true, training: {epochs: 3}}
students:
  - model: borrowed_classifier
    name: borrowed
    body: {model: picture_convolution, widths: [3, 4]}
    teacher_width: 12
objective: [{loss: fit_net, student: head.projection, teacher: dropout, project: false}]
training: {epochs: 2, batch_size: 16}
seeds: [0]
"""


def test_a_whole_run_deploys_it_and_its_twin_learns_a_classifier_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for label, bright in (("dark", 60), ("light", 200)):
        (tmp_path / "shop" / label).mkdir(parents=True)
        for i in range(40):
            picture = random.normal(bright, 40, (12, 12)).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "shop" / label / f"{i}.png")
    run(parse(RECIPE)[0], base=tmp_path, out=tmp_path / "out")
    assert Artifact.open(tmp_path / "out" / "artifact" / "borrowed").check_golden() < 1e-4
    from limbeck.model import Model

    teacher = Model.load(next((tmp_path / "cache" / "teachers").iterdir()))
    held = [Model.load(folder).module for folder in (tmp_path / "out" / "steps" / "students").iterdir()]
    equal = [torch.equal(module.head.classifier.weight, teacher.module.head.weight) for module in held]
    assert sorted(equal) == [False, True]


def test_check_finds_a_wrong_width_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.check import check

    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    for bright, label in enumerate(("dark", "light")):
        (tmp_path / "shop" / label).mkdir(parents=True)
        for i in range(12):
            picture = np.full((8, 8), 10 * i + bright, np.uint8)
            Image.fromarray(picture).save(tmp_path / "shop" / label / f"{i}.png")
    recipe, lines = parse(RECIPE.replace("width: 12", "width: 5"))
    assert "reads 12 numbers, and teacher_width is 5" in " ".join(one.message for one in check(recipe, lines, tmp_path))
