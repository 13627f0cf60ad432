"""How weights move: parameters and their rates, the optimiser, the schedule, the brake, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from limbeck.errors import Diverged, UserError
from limbeck.objective import Objective
from limbeck.recipe import Training

SKIPS, RETURNS = 3, 3
"""Steps in a row that may fail before going back to the last good state, and times that is done."""


def groups(student: nn.Module, objective: Objective) -> list[dict[str, Any]]:
    """Parameters by the factor on their learning rate; a student names its own under `rates` (prefix -> factor)."""
    rates: Mapping[str, float] = getattr(student, "rates", {})
    groups: dict[float, list[nn.Parameter]] = {1.0: [p for p in objective.parameters() if p.requires_grad]}
    for name, parameter in student.named_parameters():
        factor = next((f for prefix, f in rates.items() if name.startswith(prefix)), 1.0)
        if parameter.requires_grad:
            groups.setdefault(factor, []).append(parameter)
    return [{"params": members, "factor": factor} for factor, members in groups.items() if members]


def optimizer(learnt: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """The optimiser a training names, over groups of parameters.

    Raises:
        UserError: torch has no such optimiser, or its settings do not fit.
    """
    kind = getattr(torch.optim, training.optimizer, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise UserError(f"training.optimizer: torch.optim has no {training.optimizer!r}; try AdamW, Adam or SGD")
    settings = {"lr": training.learning_rate, "weight_decay": training.weight_decay, **training.optimizer_settings}
    if training.optimizer in ("Adam", "AdamW", "SGD", "Adagrad"):
        settings.setdefault("fused", True)
    try:
        return kind(learnt, **settings)
    except TypeError as wrong:
        raise UserError(f"training.optimizer_settings do not fit {training.optimizer}: {wrong}") from None


def schedule(training: Training, share: float) -> float:
    """The factor on the learning rate when a share of all steps is done."""
    if share < training.warmup:
        return share / training.warmup + 1e-3
    rest = (share - training.warmup) / (1.0 - training.warmup)
    if training.schedule == "linear":
        return 1.0 - rest
    return 0.5 * (1.0 + math.cos(math.pi * rest)) if training.schedule == "cosine" else 1.0


@dataclass
class Brake:
    """What is done about losses that are not finite: skip, then go back and slow down, then give up.

    Args:
        factor: on the learning rate; halved by every return to the last good state.
        bad: steps in a row that failed.
        returns: to the last good state, so far.
    """

    factor: float = 1.0
    bad: int = 0
    returns: int = 0

    def holds(self, *, finite: bool) -> bool:
        """Count a step; false where it is time to go back."""
        self.bad = 0 if finite else self.bad + 1
        return self.bad < SKIPS

    def back(self, name: str, training: Training) -> None:
        """Count a return.

        Raises:
            Diverged: there were too many.
        """
        self.returns += 1
        if self.returns > RETURNS:
            raise Diverged(
                f"{name}: the loss is not finite after {RETURNS} returns to the last good state, each at half the "
                f"rate; lower training.learning_rate (now {training.learning_rate})"
            )
        self.factor, self.bad = self.factor / 2, 0


def average(student: nn.Module, training: Training) -> AveragedModel | None:
    """Exponentially averaged weights and buffers, where the training wants them."""
    if training.ema is None:
        return None
    decayed = get_ema_multi_avg_fn(training.ema)  # type: ignore[no-untyped-call]  # torch's
    return AveragedModel(student, multi_avg_fn=decayed, use_buffers=True)


@contextmanager
def flushed() -> Iterator[None]:
    """Numbers below 1e-38 count as 0 meanwhile: CPUs compute several times slower with them."""
    before = float(torch.tensor(1e-40) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)  # it is the whole thread's, not torch's alone
