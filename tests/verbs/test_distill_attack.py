"""Trainings whose rows are attacked, against a loop written by hand."""

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck import parts
from limbeck.bind import alone
from limbeck.errors import UserError
from limbeck.loader import TableLoader
from limbeck.losses.ard import Ard
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.objective import Objective
from limbeck.recipe import Loss, Training
from limbeck.threat import Threat
from limbeck.verbs.distill import distill

torch.set_num_threads(1)
ROWS, CLASSES = 16, 3
RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (ROWS, 1, 4, 4), dtype=np.uint8)
LABEL = RANDOM.integers(0, CLASSES, ROWS)
THREAT = Threat(radius=0.1, steps=3, step=0.05, against="label", random_start=False)
TRAINING = Training(
    epochs=2,
    batch_size=8,
    optimizer="SGD",
    learning_rate=0.1,
    schedule="constant",
    warmup=0.0,
    device="cpu",
    attack=THREAT,
)


class Net(nn.Module):
    """Bytes, or numbers in [0, 1], to logits; batch norm and dropout must sleep in an attack."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(16, CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        numbers = picture if picture.is_floating_point() else picture / 255.0
        return self.last(self.drop(self.norm(numbers.flatten(1))))


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def loader() -> TableLoader:
    return TableLoader({"picture": PICTURE, "label": LABEL}, np.arange(ROWS), batch_size=8, seed=1)


def attacked(model: Net, batch: Mapping[str, Tensor]) -> Tensor:
    """PGD on cross-entropy, step by step."""
    clean = batch["picture"] / 255.0
    moved = clean.clone()
    model.eval()
    for _ in range(THREAT.steps):
        moved = moved.detach().requires_grad_()
        functional.cross_entropy(model(moved), batch["label"], reduction="sum").backward()
        moved = moved.detach() + THREAT.step * moved.grad.sign()
        moved = torch.min(torch.max(moved, clean - THREAT.radius), clean + THREAT.radius).clamp(0, 1)
    model.train()
    model.zero_grad()
    return moved.detach()


def test_a_robust_training_equals_a_loop_written_by_hand() -> None:
    student, teacher = net(), net(1)
    theirs = deepcopy(student)
    objective = Objective([("hard", CrossEntropy(), 0.5), ("ard", Ard(temperature=2.0), 0.5)])
    distill(student, loader(), teacher=teacher, objective=objective, training=TRAINING)
    teacher.eval()
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
    for epoch in range(2):
        for batch in loader().batches(epoch):
            hard = functional.cross_entropy(theirs(batch["picture"]), batch["label"])
            said = theirs(attacked(deepcopy(theirs), batch))
            target = teacher(batch["picture"]).detach()
            soft = functional.kl_div((said / 2).log_softmax(1), (target / 2).softmax(1), reduction="batchmean") * 4
            optimizer.zero_grad()
            (0.5 * hard + 0.5 * soft).backward()
            optimizer.step()
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_an_attacked_student_errs_less_when_attacked() -> None:
    plain, robust = net(), net()
    training = TRAINING.model_copy(update={"epochs": 60})
    distill(
        plain,
        loader(),
        objective=Objective([("hard", CrossEntropy(), 1.0)]),
        training=training.model_copy(update={"attack": None}),
    )
    hard = Objective([("hard", CrossEntropy(signal="attacked"), 1.0)])
    distill(robust, loader(), objective=hard, training=training)
    batch = {"picture": torch.from_numpy(PICTURE), "label": torch.from_numpy(LABEL)}
    lost = [functional.cross_entropy(one(attacked(one, batch)), batch["label"]).item() for one in (plain, robust)]
    assert lost[1] < lost[0]


def test_batches_without_pictures_are_refused_before_any_step() -> None:
    table = TableLoader({"x": PICTURE[:, 0, 0], "label": LABEL}, np.arange(ROWS), batch_size=8, seed=1)
    with pytest.raises(UserError, match="pictures \\(B, C, H, W\\) were wanted"):
        distill(nn.Linear(4, 3), table, objective=Objective([("hard", CrossEntropy(), 1.0)]), training=TRAINING)


def test_the_twin_of_a_robust_student_is_trained_adversarially_with_equal_weight() -> None:
    task = parts.get("tasks", "classify_image")
    losses = (Loss(loss="hard", weight=0.25), Loss(loss="ard", weight=0.75))
    kept = alone(losses, task, object())
    assert [(loss.loss, loss.weight, loss.settings) for loss in kept] == [
        ("hard", 0.25, {}),
        ("hard", 0.75, {"signal": "attacked"}),
    ]
    (plain,) = alone((losses[0], Loss(loss="kl", weight=0.75)), task, object())
    assert (plain.weight, plain.settings) == (1.0, {})
    (only,) = alone(losses[1:], task, object())
    assert (only.weight, only.settings) == (0.75, {"signal": "attacked"})


def test_a_training_without_attacks_keeps_its_fingerprint() -> None:
    assert "attack" not in Training().digest()
    assert TRAINING.digest()["attack"]["steps"] == 3
