"""Several tasks over a shared trunk: a head, a hard and a soft term for each, against a loop written by hand."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.loader import TableLoader
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.verbs.distill import distill

torch.set_num_threads(1)
ROWS, WIDTH = 40, 6
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, WIDTH)).astype(np.float32)
AGE = np.where(RANDOM.random(ROWS) < 0.3, -1, (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0))
GENDER = np.where(RANDOM.random(ROWS) < 0.2, -1, (X[:, 2] > 0).astype(np.int64))
HEADS = {"age": 3, "gender": 2}
TRAINING = Training(
    epochs=4, batch_size=10, optimizer="SGD", learning_rate=0.2, schedule="constant", warmup=0.0, device="cpu"
)


class Profile(nn.Module):
    """A trunk that all attributes share, and a head for each."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(WIDTH, 5)
        self.heads = nn.ModuleDict({name: nn.Linear(5, classes) for name, classes in HEADS.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        inner = torch.tanh(self.trunk(x))
        return {f"logits.{name}": head(inner) for name, head in self.heads.items()}


def loader() -> TableLoader:
    return TableLoader({"x": X, "age": AGE, "gender": GENDER}, np.arange(ROWS), batch_size=10, seed=1)


def made(seed: int) -> Profile:
    torch.manual_seed(seed)
    return Profile()


def lost(student: Profile, teacher: Profile, batch: dict[str, Tensor]) -> list[Tensor]:
    """Each term: per head the mean over rows that have the label, then the divergence over all rows."""
    mine, theirs = student(batch["x"]), teacher(batch["x"])
    found = []
    for name in HEADS:
        known = batch[name] >= 0
        found.append(functional.cross_entropy(mine[f"logits.{name}"][known], batch[name][known]))
        p, q = theirs[f"logits.{name}"].softmax(1).detach(), mine[f"logits.{name}"].log_softmax(1)
        found.append(functional.kl_div(q, p, reduction="batchmean"))
    return found


@pytest.mark.parametrize("weight", [0.7, "learned", "balanced"])
def test_heads_share_a_trunk_and_each_has_its_own_terms_and_missing_labels(weight: float | str) -> None:
    student, teacher = made(0), made(1)
    theirs = deepcopy(student)
    terms = []
    for place, name in enumerate(HEADS):
        signal = f"logits.{name}"
        terms.append((f"hard {name}", CrossEntropy(signal=signal, truth=name), 1.0 if place == 0 else weight))
        terms.append((f"soft {name}", Kl(temperature=1.0, signal=signal), weight))
    taught = distill(student, loader(), teacher=teacher, objective=Objective(terms), training=TRAINING)
    weights = [1.0, *(1.0 if isinstance(weight, str) else weight for _ in terms[1:])]
    doubt = torch.zeros(4, requires_grad=True)
    learnt = [doubt, *theirs.parameters()]
    for epoch in range(TRAINING.epochs):
        for step, batch in enumerate(loader().batches(epoch)):
            values = lost(theirs, teacher, batch)
            whole = [w * v for w, v in zip(weights, values, strict=True)]
            if weight == "learned":
                whole = [values[0], *(torch.exp(-s) * v + s for s, v in zip(doubt[1:], values[1:], strict=True))]
            gradients = torch.autograd.grad(sum(whole), learnt, allow_unused=True, retain_graph=True)
            if weight == "balanced" and epoch == step == 0:
                norms = [
                    torch.stack(
                        [
                            g.square().sum()
                            for g in torch.autograd.grad(
                                v, [*theirs.parameters()], allow_unused=True, retain_graph=True
                            )
                            if g is not None
                        ]
                    )
                    .sum()
                    .sqrt()
                    .item()
                    for v in values
                ]
                weights = [1.0, *(norms[0] / norm for norm in norms[1:])]
            for parameter, gradient in zip(learnt, gradients, strict=True):
                if gradient is not None:
                    parameter.data -= TRAINING.learning_rate * gradient
    for a, b in zip(student.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert {"hard age", "soft age", "hard gender", "soft gender"} <= set(taught.terms)
