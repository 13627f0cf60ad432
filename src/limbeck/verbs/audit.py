"""Audit a predictor of pictures: what it still knows when they are attacked, or made worse."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from limbeck.attack import against_label, pgd, unit
from limbeck.corruption import STRENGTHS, corrupt
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.task import Problem, Task
from limbeck.threat import Threat
from limbeck.types import Array, Predictor, Rows, fingerprint

BATCH = 128
"""Pictures attacked at once."""
CLEAN, ENSEMBLE = "clean", "ensemble"


@dataclass(frozen=True)
class Audit:
    """Settings.

    Args:
        rows: test rows at most; drawn at random, alike every time.
        radii: of attacks, rising; how far each channel of a pixel may be moved, its values counted in [0, 1].
        steps: of PGD, each of a quarter of the radius.
        iterations: of the ensemble's two AutoPGD.
        queries: of the ensemble's Square Attack, which needs no gradients; 0 leaves it out.
        severities: of corruptions, each 1 to 5, rising.
        seed: of random starts and noise.
    """

    rows: int = 500
    radii: tuple[float, ...] = (2 / 255, 4 / 255, 8 / 255)
    steps: int = 20
    iterations: int = 50
    queries: int = 500
    severities: tuple[int, ...] = (1, 3, 5)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.steps < 1 or self.iterations < 1 or self.queries < 0:
            raise UserError(
                f"audit: rows is {self.rows}, steps {self.steps}, iterations {self.iterations} and queries "
                f"{self.queries}; 1 or more of each, or no queries, were wanted"
            )
        if list(self.radii) != sorted(set(self.radii)) or not all(0 < radius <= 1 for radius in self.radii):
            raise UserError(
                f"audit: radii are {list(self.radii)}; rising distances above 0 and at most 1 were wanted (all that a "
                "pixel can be moved; 8/255 is 0.0314)"
            )
        if list(self.severities) != sorted(set(self.severities)) or not set(self.severities) <= {1, 2, 3, 4, 5}:
            raise UserError(f"audit: severities are {list(self.severities)}; rising ones of 1 to 5 were wanted")

    @property
    def attacks(self) -> tuple[str, ...]:
        """Their names, from the weakest."""
        return ("fgsm", f"pgd-{self.steps}", ENSEMBLE)

    def how(self) -> dict[str, str]:
        """What is done, in words."""
        square = f", and Square Attack of {self.queries} queries, which sees answers only" if self.queries else ""
        said = {
            "fgsm": "one step of the whole radius along the sign of the gradient",
            f"pgd-{self.steps}": f"{self.steps} steps of a quarter of the radius from one random start",
            ENSEMBLE: f"whatever PGD or a smaller radius breaks, and AutoPGD on cross-entropy and on the logits' "
            f"ratio, {self.iterations} iterations each{square} (adversarial-robustness-toolbox)",
        }
        return {**said, ", ".join(STRENGTHS): "strengths of CIFAR-10-C below 64 pixels, else of ImageNet-C"}


def drawn(rows: Rows, task: Task, problem: Problem, settings: Audit) -> Rows:
    """The test rows that are audited: labelled ones, drawn alike every time.

    Raises:
        UserError: the task does not classify pictures.
    """
    if "picture" not in task.roles or task.signal != ("logits", "logits"):
        raise UserError(f"robustness is audited where pictures are classified; '{task.name}' does something else")
    labelled = rows.take(np.flatnonzero(task.targets(rows, problem)["label"] >= 0))
    return labelled.take(labelled.drawn(settings.rows))


def right(predictor: Predictor, rows: Rows, task: Task, problem: Problem) -> Array:
    """Which rows a predictor classifies rightly, bool (N,)."""
    judgement = task.judge(predictor, rows, problem)
    return np.asarray(judgement.top[:, 0] == judgement.columns["label"])


def corrupted(rows: Rows, corruption: str, severity: int, seed: int) -> Rows:
    """The rows with worse pictures, each row's noise its own."""
    name = rows.role("picture")
    pictures = rows.table.column(name).to_pylist()
    seeds = np.random.SeedSequence(seed).generate_state(1)[0] + rows.id.astype(np.uint64)
    worse = [corrupt(data, corruption, severity, seed=int(own)) for data, own in zip(pictures, seeds, strict=True)]
    place = rows.table.column_names.index(name)
    table = rows.table.set_column(place, name, pa.array(worse, rows.table.schema.field(name).type))
    how = {"corruption": corruption, "severity": severity, "seed": seed}
    return replace(rows, table=table, source=fingerprint("corrupted", 1, source=rows.source, **how))


def attackable(predictor: Predictor) -> Model | None:
    """The model whose gradients an attack can follow; none of what was brought, joined, or reads no pictures."""
    encodings = predictor.encoder.encodings if isinstance(predictor, Model) else ()
    return predictor if isinstance(predictor, Model) and [e.kind for e in encodings] == ["picture"] else None


@dataclass(frozen=True)
class Targets:
    """What is attacked.

    Args:
        picture: bytes, (N, channels, H, W), as the model's encoder makes them.
        label: positions, (N,).
    """

    picture: Tensor
    label: Tensor


def targets(model: Model, rows: Rows, task: Task, problem: Problem) -> Targets:
    """A model's pictures of the rows, and their labels."""
    picture = model.encoder(rows.batch(model.reads))["picture"]
    return Targets(torch.from_numpy(picture), torch.from_numpy(task.targets(rows, problem)["label"]))


def withstands(model: Model, aims: Targets, standing: Array, attack: str, radius: float, settings: Audit) -> Array:
    """Which rows a model still classifies rightly, bool (N,).

    Args:
        model: attacked; it is left as it is.
        aims: pictures and labels.
        standing: bool (N,), rows worth attacking; the others are wrong already.
        attack: one of `settings.attacks`.
        radius: how far a value may be moved.
        settings: how.
    """
    module = _Logits(copy.deepcopy(model.module).eval().requires_grad_(False))
    device = next((value.device for value in module.state_dict().values()), torch.device("cpu"))
    left = standing.copy()
    for start in range(0, len(left), BATCH):
        at = start + np.flatnonzero(left[start : start + BATCH])
        if not len(at):
            continue
        picture, label = (whole[torch.from_numpy(at)].to(device) for whole in (aims.picture, aims.label))
        with _seeded(settings.seed + start):
            if attack == ENSEMBLE:
                held = _ensemble(module, unit(picture), label, radius, settings)
            else:
                held = _holds(
                    module, pgd(module, picture, against_label(label), _threat(attack, radius, settings)), label
                )
        left[at] = held.cpu().numpy()
    return left


def _threat(attack: str, radius: float, settings: Audit) -> Threat:
    if attack == "fgsm":
        return Threat(radius=radius, step=radius, steps=1, random_start=False)
    return Threat(radius=radius, step=radius / 4, steps=settings.steps)


class _Logits(nn.Module):
    """A model's module as others want one: pictures in [0, 1] to logits."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, picture: Tensor) -> Tensor:
        logits: Tensor = self.module(picture=picture)["logits"]
        return logits.float()


def _holds(module: nn.Module, picture: Tensor, label: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.as_tensor(module(picture).argmax(1) == label)


def _ensemble(module: nn.Module, picture: Tensor, label: Tensor, radius: float, settings: Audit) -> Tensor:
    """Which rows withstand every attack of the ensemble, each of which meets only those that are left.

    Source: Croce & Hein 2020 (AutoAttack, without its targeted attacks), as the adversarial-robustness-toolbox has
    them. The ratio of logits wants three classes at least.
    """
    from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack
    from art.estimators.classification import PyTorchClassifier

    classes = int(module(picture[:1]).shape[1])
    kind = "gpu" if picture.is_cuda else "cpu"
    shape = tuple(picture.shape[1:])
    judged = PyTorchClassifier(module, nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0), device_type=kind)
    ways = {"norm": np.inf, "eps": radius, "batch_size": BATCH, "verbose": False}
    losses = ["cross_entropy", *(["difference_logits_ratio"] if classes > 2 else [])]
    attacks = [
        AutoProjectedGradientDescent(
            judged, **ways, eps_step=radius / 4, max_iter=settings.iterations, nb_random_init=1, loss_type=loss
        )
        for loss in losses
    ]
    if settings.queries:
        # Its first square must leave room beside it, in the picture's shorter side too.
        share = min(0.8, (min(shape[1:]) - 1) ** 2 / (shape[1] * shape[2]))
        attacks.append(SquareAttack(judged, **ways, max_iter=settings.queries, nb_restarts=1, p_init=share))
    held = torch.ones(len(label), dtype=torch.bool, device=label.device)
    for attack in attacks:
        at = torch.nonzero(held).flatten()
        if not len(at):
            break
        clean = picture[at]
        hot = np.eye(classes, dtype=np.float32)[label[at].cpu().numpy()]
        moved = torch.from_numpy(attack.generate(clean.cpu().numpy(), hot)).to(clean)
        near = torch.clamp(moved, (clean - radius).clamp(min=0), (clean + radius).clamp(max=1))
        held[at] = _holds(module, near, label[at])
    return held


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers by a seed, those of NumPy's global state too, which libraries use; afterwards as before."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(before)
