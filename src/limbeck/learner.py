"""One network that is descended: its objective, its optimiser, its averaged weights, and its step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limbeck import checkpoint
from limbeck.attack import Attacker
from limbeck.descent import average, groups, optimizer
from limbeck.live import Companion, Said, dry_batch, speaker, tapped
from limbeck.loader import parts_of
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.share import Later, shares_of
from limbeck.threat import ATTACKED
from limbeck.weight import Source

Knows = Callable[[Mapping[str, Tensor]], Said] | None
"""What the teacher says of rows; none where there is no teacher."""

Count = Callable[[str, float], None]
"""Takes a value of a step by its name in the curves."""


@dataclass(frozen=True)
class Moment:
    """When a step is.

    Args:
        progress: share of all steps that is done.
        rate: of learning.
        look: whether gradients are measured.
    """

    progress: float
    rate: float
    look: bool


class Learner:
    """A network in training.

    Args:
        module: trained in place.
        objective: its own.
        training: precision, optimiser, ...
        accelerator: device and processes.
        first: a batch, on the device.
        knows: the teacher.

    Raises:
        UserError: parts that do not fit, found by a dry batch; the objective's projections take their sizes here.
    """

    def __init__(  # what a training is made of
        self,
        module: nn.Module,
        objective: Objective,
        training: Training,
        accelerator: Accelerator,
        first: Mapping[str, Tensor],
        knows: Knows,
    ) -> None:
        self.module, self.objective, self.knows = module.train(), objective.train(), knows
        self.training, self.accelerator = training, accelerator
        # It asks the bare network: an attack is no pass that processes must agree on.
        threat = training.attack
        self.attacker = Attacker(threat, module, speaker(module, first, "student")) if threat else None
        if self.attacker is not None:
            self.attacker.check(first)
        dry_batch(module, objective, knows, first, attacked=threat is not None)
        self.model = accelerator.prepare(module)
        self.average = average(module, training)  # copied before it is tapped: the copy has taps of its own
        self.taps = objective.taps(module, "student")
        self.terms = accelerator.prepare(objective) if list(objective.parameters()) else objective
        self.learnt = [p for p in (*module.parameters(), *objective.parameters()) if p.requires_grad]
        self.optimizer = accelerator.prepare(optimizer(groups(module, objective), training))
        self.says = tapped(speaker(self.model, first, "student"), self.taps)
        self.company: dict[Source, list[Companion]] = {}
        if "average" in objective.company:
            self._join("average", self.kept, first)

    def meet(self, peers: Sequence[Learner], first: Mapping[str, Tensor]) -> None:
        """Learn from these beside it from now on."""
        for peer in peers:
            self._join("peers", peer.module, first)

    def _join(self, source: Source, module: nn.Module, first: Mapping[str, Tensor]) -> None:
        taps = self.objective.taps(module, source)
        self.company.setdefault(source, []).append(Companion(module, taps, first, source))

    def _told(self, batch: Mapping[str, Tensor], source: Source) -> list[Said]:
        return [one(batch) for one in self.company[source]]

    def close(self) -> None:
        """Take all taps off."""
        for taps in (self.taps, *(one.taps for some in self.company.values() for one in some)):
            taps.close()

    @property
    def kept(self) -> nn.Module:
        """The network as it is judged and kept: with averaged weights, where there are any."""
        averaged: nn.Module | None = self.average and self.average.module
        return self.module if averaged is None else averaged

    @property
    def finite(self) -> bool:
        """Whether all that it learns is."""
        return all(bool(torch.isfinite(p).all()) for p in self.learnt)

    def step(self, batch: Mapping[str, Tensor], now: Moment, count: Count) -> bool:
        """Forward, backward, update. A non-finite loss updates nothing and answers false."""
        for group in self.optimizer.param_groups:
            group["lr"] = now.rate * group["factor"]
        self.objective.at(now.progress)
        losses = self._descend(batch, count if now.look else None)
        if not math.isfinite(losses["loss"]) or not self._measured(now, count):
            self.optimizer.zero_grad()
            return False
        for name, one in losses.items():
            count(name, one)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return True

    def _descend(self, batch: Mapping[str, Tensor], look: Count | None) -> dict[str, float]:
        """The gradient of a batch, taken in parts; its loss and terms, over all processes."""
        parts = deque(
            (part, Later(partial(self._known, part), partial(self._told, part)))
            for part in parts_of(batch, self.training.accumulate)
        )
        shares = self._shares(parts)
        lost: dict[str, Tensor] = {}
        while parts:
            part, known = parts.popleft()  # what the teacher said of it is held no longer than it takes
            share = shares.popleft()
            with self.accelerator.autocast():
                value, terms = self.terms(self._said(part, known), known.said, part, share, known.company)
            for name, one in {"loss": value, **terms}.items():
                own = one.detach() if share is None or name not in share else one.detach() * share[name]
                lost[name] = lost[name] + own if name in lost else own
            if look is not None and not parts and len(terms) > 1:
                self._measure(terms, look)
            with nullcontext() if not parts else self._unsynchronised():
                # Gradients of processes are averaged, and each has its share of the sum.
                self.accelerator.backward(value * self.accelerator.num_processes)
        return dict(zip(lost, self._together(torch.stack([*lost.values()])).tolist(), strict=True))

    def _measured(self, now: Moment, count: Count) -> bool:
        """Clip the gradient and tell how long it was, where that is wanted; false where it is not finite."""
        if self.training.clip is None and not now.look:
            return True
        norm = float(self.accelerator.clip_grad_norm_(self.learnt, self.training.clip or math.inf))
        if math.isfinite(norm):
            if now.look:
                count("gradient_norm", norm)
            return True
        # Half precision's own overflows are left to its scaler, which skips the step and scales less.
        return self.accelerator.scaler is not None

    def _measure(self, terms: Mapping[str, Tensor], count: Count) -> None:
        """How long each term's own gradient is, for the curves and for weights that are balanced by it."""
        body = [p for p in self.module.parameters() if p.requires_grad]
        norms = {}
        for name, value in terms.items():
            if value.requires_grad:
                found = torch.autograd.grad(value, body, retain_graph=True, allow_unused=True)
                squares = [piece.float().square().sum() for piece in found if piece is not None]
                norm = float(self.accelerator.reduce(torch.stack(squares).sum().sqrt(), "mean")) if squares else 0.0
                if math.isfinite(norm):
                    norms[name] = norm
                    count(f"gradient_norm.{name}", norm)
        self.objective.rebalance(norms)

    def _said(self, part: Mapping[str, Tensor], known: Later) -> Said:
        """What the network says of rows, and of the same rows attacked where that is wanted."""
        said = self.says(part)
        if self.attacker is None:
            return said
        return {**said, ATTACKED: self.says(self.attacker(part, known.said))["logits"]}

    def _known(self, part: Mapping[str, Tensor]) -> Said:
        return self.knows(part) if self.knows else {}

    def _shares(self, parts: Sequence[tuple[Mapping[str, Tensor], Later]]) -> deque[Mapping[str, Tensor] | None]:
        """What each part counts for in each term; none where a part is all."""
        if len(parts) == 1 and self.accelerator.num_processes == 1:
            return deque([None])
        return deque(shares_of(self.objective, parts, self._together))

    def _together(self, here: Tensor) -> Tensor:
        """The sum over all processes: where one has lost beyond measure, none takes the step."""
        if self.accelerator.num_processes == 1:
            return here
        return self.accelerator.reduce(here.clone(), "sum")

    @contextmanager
    def _unsynchronised(self) -> Iterator[None]:
        with self.accelerator.no_sync(self.model), self.accelerator.no_sync(self.terms):
            yield

    def state(self) -> dict[str, Any]:
        """All that its further steps depend on."""
        return {
            "module": checkpoint.copied(self.module.state_dict()),
            "objective": checkpoint.copied(self.objective.state_dict()),
            "optimizer": checkpoint.copied(self.optimizer.state_dict()),
            "average": checkpoint.copied(self.average.state_dict()) if self.average is not None else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put `state` back."""
        self.module.load_state_dict(state["module"])
        self.objective.load_state_dict(state["objective"])
        # The optimiser keeps the tensors it is given and writes into them.
        self.optimizer.load_state_dict(checkpoint.copied(state["optimizer"]))
        if self.average is not None:
            self.average.load_state_dict(state["average"])
