import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from limbeck.attack import Attacker, against_answer, against_label, pgd, still, unit
from limbeck.check import check
from limbeck.errors import UserError
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.rslad import Rslad
from limbeck.objective import Objective
from limbeck.picture_reader import Pixels, convolution
from limbeck.recipe import parse
from limbeck.threat import Threat


class Network(nn.Module):
    """Convolutions with running statistics and units that are dropped."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.pixels = Pixels((0.5,), (0.25,))
        self.features = nn.Sequential(convolution(1, 8), convolution(8, 8, stride=2))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8 * 25, 3)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.dropout(self.features(self.pixels(picture)).flatten(1)))}


def network(dropout: float = 0.5) -> Network:
    torch.manual_seed(0)
    return Network(dropout)


def rows(count: int = 48) -> dict[str, Tensor]:
    """Pictures of a bright stripe at one of three heights, which a faint one in the last column gives away."""
    draw = torch.Generator().manual_seed(1)
    label = torch.arange(count) % 3
    picture = torch.randint(0, 150, (count, 1, 9, 9), generator=draw)
    picture[..., 8] = 128
    for row, one in enumerate(label):
        picture[row, 0, 3 * one : 3 * one + 2, :8] += 70
        picture[row, 0, 3 * one : 3 * one + 2, 8] += 20
    return {"picture": picture.to(torch.uint8), "label": label}


class Rowwise(nn.Module):
    """Logits of each picture alone: no pooling over rows, nothing random."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(81, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, picture: Tensor) -> Tensor:
        return self.inner(unit(picture))


def test_of_a_linear_model_the_attack_is_the_sign_of_its_weights() -> None:
    weight = torch.randn(81, 2, generator=torch.Generator().manual_seed(0))
    picture, label = rows(6)["picture"] / 255.0, torch.tensor([0, 1, 0, 1, 0, 1])
    threat = Threat(radius=0.1, step=0.03, steps=20)
    found = pgd(lambda p: p.flatten(1) @ weight, picture, against_label(label), threat)
    away = torch.stack([(weight[:, 1 - one] - weight[:, one]).sign().view(1, 9, 9) for one in label])
    torch.testing.assert_close(found, (picture + 0.1 * away).clamp(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("threat", [Threat(radius=0.05, step=0.05, steps=1), Threat(radius=0.06, step=0.01, steps=7)])
def test_equal_to_the_attack_of_another_library(threat: Threat) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    net, held = Rowwise().eval(), rows(5)
    settled = Threat(threat.radius, threat.steps, threat.step, random_start=False)
    found = pgd(net, held["picture"], against_label(held["label"]), settled)
    judged = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 9, 9), 3, clip_values=(0.0, 1.0), device_type="cpu")
    theirs = evasion.ProjectedGradientDescent(
        judged, norm=np.inf, eps=threat.radius, eps_step=threat.step, max_iter=threat.steps, verbose=False
    )
    wanted = theirs.generate((held["picture"] / 255.0).numpy(), np.eye(3)[held["label"].numpy()])
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_attacked_pictures_are_valid_and_near() -> None:
    held, threat = rows(), Threat(radius=0.2, step=0.15, steps=3)
    held["picture"][:8] = 0
    held["picture"][8:16] = 255
    found = Attacker(threat, net := network(), lambda r: net(r["picture"]))(held, {})["picture"]
    assert found.min() >= 0 <= found.max() <= 1
    assert (found - held["picture"] / 255.0).abs().max() <= 0.2 + 1e-6
    assert (found - held["picture"] / 255.0).abs().max() > 0.19


def test_the_attack_does_harm() -> None:
    held, net = rows(), Rowwise()
    found = pgd(net, held["picture"], harm := against_label(held["label"]), Threat())
    assert (harm(net(found)) > harm(net(held["picture"]))).all()
    answer = torch.randn(48, 3)
    found = pgd(net, held["picture"], harm := against_answer(answer), Threat())
    assert harm(net(found)).mean() > harm(net(held["picture"])).mean()


def test_the_harm_to_an_answer_is_its_divergence() -> None:
    answer, said = torch.randn(4, 5), torch.randn(4, 5)
    p, q = torch.softmax(answer, 1), torch.softmax(said, 1)
    torch.testing.assert_close(against_answer(answer)(said), (p * (p / q).log()).sum(1))


def test_equal_generators_make_equal_attacks() -> None:
    held, net = rows(), Rowwise()
    harm = against_label(held["label"])
    one, two, other = (
        pgd(net, held["picture"], harm, Threat(steps=1), generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_but_the_pictures_is_touched(training: bool) -> None:
    net = network().train(training)
    net.head.weight.requires_grad_(False)
    before, modes = copy.deepcopy(net.state_dict()), [part.training for part in net.modules()]
    state = torch.random.get_rng_state()
    attacker = Attacker(Threat(), net, lambda r: net(r["picture"]), torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = attacker(rows(), {})
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [part.training for part in net.modules()] == modes
    assert all(p.grad is None for p in net.parameters())
    assert not net.head.weight.requires_grad
    assert net.features[0][0].weight.requires_grad
    assert not found["picture"].requires_grad
    assert torch.equal(state, torch.random.get_rng_state())


def test_modes_come_back_when_a_module_fails() -> None:
    net = network().train()

    def fails() -> None:
        with still(net):
            assert not net.dropout.training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert net.dropout.training


def test_a_row_without_a_label_is_moved_away_from_the_models_own_class() -> None:
    held, net = rows(6), Rowwise()
    unlabelled = {**held, "label": torch.full((6,), -1)}
    own = {**held, "label": net(held["picture"]).argmax(1)}
    threat = Threat(random_start=False)
    one, other = (
        Attacker(threat, net, lambda r: {"logits": net(r["picture"])})(some, {}) for some in (unlabelled, own)
    )
    assert torch.equal(one["picture"], other["picture"])


def test_without_a_teacher_labels_are_attacked() -> None:
    held, net = rows(6), Rowwise()
    says = lambda r: {"logits": net(r["picture"])}  # noqa: E731
    by_teacher = Attacker(Threat(against="teacher", random_start=False), net, says)
    by_label = Attacker(Threat(random_start=False), net, says)
    assert torch.equal(by_teacher(held, {})["picture"], by_label(held, {})["picture"])
    known = {"logits": torch.randn(6, 3)}
    assert not torch.equal(by_teacher(held, known)["picture"], by_label(held, known)["picture"])


@pytest.mark.parametrize(
    ("change", "known", "said"),
    [
        ({"picture": None}, {}, "pictures .B, C, H, W. were wanted"),
        ({"picture": torch.randn(6, 1, 9, 9)}, {}, r"give bytes, or numbers in \[0, 1\]"),
        ({"picture": torch.zeros(6, 81)}, {}, "were wanted"),
        ({"label": None}, {}, "no 'label'"),
        ({}, {"logits.ids": torch.zeros(6, 2)}, r"whole 'logits'.*logits\.ids"),
    ],
)
def test_rows_that_cannot_be_attacked_are_refused(change: Any, known: Any, said: str) -> None:
    held = {name: value for name, value in {**rows(6), **change}.items() if value is not None}
    net = Rowwise()
    with pytest.raises(UserError, match=said):
        Attacker(Threat(against="teacher"), net, lambda r: {"logits": net(r["picture"])})(held, known)


def taught(objective: Objective, threat: Threat | None, teacher: nn.Module | None) -> Network:
    """The loop by hand, as a training that attacks has it."""
    net, held = network(dropout=0.0), rows(48)
    says = lambda r: net(r["picture"])  # noqa: E731
    attacker = Attacker(threat, net, says, torch.Generator().manual_seed(0)) if threat else None
    known = {} if teacher is None else {"logits": teacher(held["picture"])["logits"].detach()}
    descent = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(45):
        said = says(held)
        if attacker is not None:
            said = {**said, "attacked": says(attacker(held, known))["logits"]}
        value, _ = objective(said, known, held)
        descent.zero_grad()
        value.backward()
        descent.step()
    return net.eval()


def withstood(net: nn.Module) -> tuple[float, float]:
    """Accuracy on clean and on attacked pictures."""
    held, strong = rows(48), Threat(radius=0.12, step=0.03, steps=20)
    attacker = Attacker(strong, net, lambda r: net(r["picture"]), torch.Generator().manual_seed(1))
    pictures = held["picture"], attacker(held, {})["picture"]
    clean, attacked = (float((net(p)["logits"].argmax(1) == held["label"]).float().mean()) for p in pictures)
    return clean, attacked


@pytest.mark.slow
def test_what_trains_on_attacked_rows_withstands_them_and_hands_that_on() -> None:
    threat = Threat(radius=0.12, step=0.04, steps=4)
    plain = taught(Objective([("hard", CrossEntropy(), 1.0)]), None, None)
    teacher = taught(Objective([("hard", CrossEntropy(signal="attacked"), 1.0)]), threat, None)
    against = Threat(radius=0.12, step=0.04, steps=4, against="teacher")
    student = taught(Objective([("rslad", Rslad(), 1.0)]), against, teacher)
    (_, fragile), (_, robust), (clean, handed) = map(withstood, (plain, teacher, student))
    assert robust > fragile + 0.2
    assert handed > fragile + 0.2
    assert clean > 0.8


def test_numbers_and_bytes_are_read_alike() -> None:
    net, held = network().eval(), rows(4)["picture"]
    torch.testing.assert_close(net(held)["logits"], net(held / 255.0)["logits"])
    assert functional.softmax(net(held)["logits"], 1).std() > 0


RECIPE = """\
task: classify_image
data: {path: pics/}
protocols:
  - {name: random, split: {kind: random, stratify: true}}
teacher: {model: picture_convolution, widths: [3], training: {attack: {steps: 2}}}
students:
  - model: picture_convolution
    name: robust
    widths: [2]
    training: {attack: {steps: 2, against: teacher}}
objective:
  - {loss: rslad}
training: {epochs: 1}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("", ""), None),
        (("    training: {attack: {steps: 2, against: teacher}}\n", ""), "a loss reads attacked rows"),
        (("steps: 2, against", "radius: 8, against"), "8/255 is 0.0314"),
        (("steps: 2, against: teacher", "steps: 2, against: labels"), "'label' or 'teacher' was wanted"),
    ],
)
def test_what_a_recipe_attacks_is_checked_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], said: str | None
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    for name in ("bottom", "top"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.random.default_rng([i, len(name)]).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pics" / name / f"{i}.png")
    try:
        found = [mistake.message for mistake in check(*parse(RECIPE.replace(*change)), tmp_path)]
    except UserError as wrong:
        found = [str(wrong)]
    assert found == [] if said is None else said in found[0]
