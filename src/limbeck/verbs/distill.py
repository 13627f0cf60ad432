"""Teach a student: one loop, in the open, with or without a teacher."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from limbeck import checkpoint
from limbeck.descent import Brake, average, flushed, groups, optimizer, schedule
from limbeck.errors import UserError
from limbeck.live import Knowledge, Said, as_batch, dry_batch, knower, speaker, tapped
from limbeck.loader import TableLoader, batches_of, count_of, parts_of
from limbeck.objective import Objective
from limbeck.progress import Teller
from limbeck.recipe import Training
from limbeck.share import Later, shares_of

LOOK_EVERY = 50


@dataclass(frozen=True)
class Watch:
    """What goes on beside the steps.

    Args:
        validate: the student to its headline on validation rows; the best weights are kept by it.
        higher_is_better: of that headline.
        stop: what it judged so far, epoch -> headline, to whether to give up; asked at every look but the last.
        folder: where checkpoints go; without one a killed training starts again.
        teller: where progress goes.
        name: what progress and trackers call this training.
    """

    validate: Callable[[nn.Module], float] | None = None
    higher_is_better: bool = True
    stop: Callable[[Mapping[int, float]], bool] | None = None
    folder: Path | None = None
    teller: Teller = field(default_factory=Teller)
    name: str = "student"


@dataclass(frozen=True)
class Taught:
    """What a training left behind; the student itself now has its best weights.

    Args:
        terms: name -> mean value an epoch, none where nothing was said: `loss`, each term, and every 50
            steps `gradient_norm` and, of several terms, `gradient_norm.<term>` each.
        validation: epochs looked at -> headline.
        best: the epoch whose weights were kept, from 1.
        steps, seconds: what it took (over all runs, where it was resumed).
        stopped: whether the watch gave it up before its end.
    """

    terms: Mapping[str, list[float | None]]
    validation: Mapping[int, float]
    best: int
    steps: int
    seconds: float
    stopped: bool = False


def distill(
    student: nn.Module,
    loader: Any,
    *,
    teacher: nn.Module | Knowledge | None = None,
    objective: Objective,
    training: Training | None = None,
    watch: Watch | None = None,
) -> Taught:
    """Train a student in place on an objective.

    Args:
        student: called with the batch columns its `forward` names; a tensor in answer is `logits`.
        loader: yields mappings of tensors, or (x, label[, id]); any iterable that can be iterated
            again, such as a `DataLoader` or a `TableLoader`.
        teacher: a live module (frozen here, for good), an open store (batches then need `id`), or
            none where no term needs one.
        objective: the weighted terms.
        training: epochs, optimiser, rate, precision, ...
        watch: validation, checkpoints, progress.

    Returns:
        Curves; the student is left in eval mode with the best weights by validation, or the last.

    Raises:
        UserError: parts that do not fit, found by a dry batch before any step.
        Diverged: losses stay non-finite after skipping, going back and slowing down.
    """
    with flushed():
        teaching = _Teaching(student, loader, teacher, objective, training or Training(), watch or Watch())
        with teaching.taps:
            return teaching.run()


class _Teaching:
    """The state of one training, and its loop."""

    def __init__(
        self,
        student: nn.Module,
        loader: Any,
        teacher: nn.Module | Knowledge | None,
        objective: Objective,
        training: Training,
        watch: Watch,
    ) -> None:
        self.student, self.loader, self.objective = student, loader, objective
        self.training, self.watch = training, watch
        self.accelerator = _accelerator(training, watch)
        device = self.accelerator.device
        if isinstance(loader, TableLoader):
            loader.process, loader.processes = self.accelerator.process_index, self.accelerator.num_processes
        whole = training.epochs * count_of(loader)
        self.total = min(whole, training.steps or whole)
        first = self._place(as_batch(next(iter(batches_of(loader, 0)))))
        student.to(device).train()
        objective.to(device).train()
        if objective.needs_teacher and teacher is None:
            raise UserError("the objective has terms that need a teacher, and none is given")
        with ExitStack() as opened:
            live = teacher if isinstance(teacher, nn.Module) else None
            theirs = opened.enter_context(objective.taps(live, "teacher")) if live is not None else None
            self.knows = knower(teacher if objective.needs_teacher else None, first, device, theirs)
            dry_batch(student, objective, self.knows, first)
            mine = opened.enter_context(objective.taps(student, "student"))
            self.taps = opened.pop_all()
        self.model = self.accelerator.prepare(student)
        self.terms = self.accelerator.prepare(objective) if list(objective.parameters()) else objective
        self.learnt = [p for p in (*student.parameters(), *objective.parameters()) if p.requires_grad]
        self.optimizer = self.accelerator.prepare(optimizer(groups(student, objective), training))
        self.says = tapped(speaker(self.model, first, "student"), mine)
        self.average = average(student, training)
        self.epoch, self.step, self.done, self.brake = 0, 0, 0, Brake()
        self.opened = checkpoint.random_state()
        self.sums: dict[str, list[float]] = {}
        self.curves: dict[str, list[float | None]] = {}
        self.validation: dict[int, float] = {}
        self.best_epoch, self.best_state = 0, checkpoint.copied(student.state_dict())
        self.stopped = False
        self.spent, self.since, self.pace = 0.0, 0.0, checkpoint.Pace(training.checkpoint_seconds)
        self.good: Mapping[str, Any] = {}

    def run(self) -> Taught:
        self._resume()
        self.since, self.pace.last = time.monotonic() - self.spent, time.monotonic()
        with self.watch.teller.bar(self.watch.name, self.total, "steps") as advance:
            advance(self.done)
            while self.done < self.total and not (self.stopped or self._patience_is_over()):
                if not self._one_epoch(advance):
                    self.brake.back(self.watch.name, self.training)
                    self._load(self.good)
                    continue
                advance(0, "judging")
                self._look()
                if not self.brake.bad:
                    self.good = self._state()
                self._save_when_due()
        return self._finish(time.monotonic() - self.since)

    def _one_epoch(self, advance: Callable[[int, str], None]) -> bool:
        """Steps to the epoch's end; false where losses stayed non-finite and must be undone."""
        for batch in self._rest():
            finite = self._one_step(self._place(as_batch(batch)))
            self.step += 1
            self.done += 1
            if not self.brake.holds(finite=finite):
                return False
            advance(1, "")
            if self.done >= self.total:
                break
            if self.training.checkpoint_seconds:
                self._save_when_due()
        self.epoch += 1
        self.step = 0
        # A last step may have broken weights that no loss has shown yet.
        return all(bool(torch.isfinite(p).all()) for p in self.learnt)

    def _rest(self) -> Iterator[Any]:
        """The batches left in the epoch. Loaders that shuffle by torch's random state get back the one they had."""
        if isinstance(self.loader, TableLoader):
            return self.loader.batches(self.epoch, self.step)
        if not self.step:
            self.opened = checkpoint.random_state()
            return batches_of(self.loader, self.epoch)
        now = checkpoint.random_state()
        checkpoint.set_random_state(self.opened)
        batches = batches_of(self.loader, self.epoch)
        for _ in range(self.step):
            next(batches, None)
        checkpoint.set_random_state(now)
        return batches

    def _one_step(self, batch: Mapping[str, Tensor]) -> bool:
        """Forward, backward, update. A non-finite loss updates nothing and answers false."""
        rate = self.training.learning_rate * self.brake.factor * schedule(self.training, self.done / max(self.total, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        look = self.done % LOOK_EVERY == 0
        self.objective.at(self.done / max(self.total, 1))
        parts = deque((part, Later(partial(self._known, part))) for part in parts_of(batch, self.training.accumulate))
        shares = self._shares(parts)
        lost: dict[str, Tensor] = {}
        while parts:
            part, known = parts.popleft()  # what the teacher said of it is held no longer than it takes
            share = shares.popleft()
            with self.accelerator.autocast():
                value, terms = self.terms(self.says(part), known.said, part, share)
            for name, one in {"loss": value, **terms}.items():
                own = one.detach() if share is None or name not in share else one.detach() * share[name]
                lost[name] = lost[name] + own if name in lost else own
            if look and not parts and len(terms) > 1:
                self._measure(terms)
            with nullcontext() if not parts else self._unsynchronised():
                # Gradients of processes are averaged, and each has its share of the sum.
                self.accelerator.backward(value * self.accelerator.num_processes)
        losses = self._together(torch.stack([*lost.values()])).tolist()
        if not math.isfinite(losses[0]):
            self.optimizer.zero_grad()
            return False
        if self.training.clip is not None or look:
            norm = float(self.accelerator.clip_grad_norm_(self.learnt, self.training.clip or math.inf))
            # Half precision's own overflows are left to its scaler, which skips the step and scales less.
            if not math.isfinite(norm) and self.accelerator.scaler is None:
                self.optimizer.zero_grad()
                return False
            if look and math.isfinite(norm):
                self._count("gradient_norm", norm)
        for name, one in zip(lost, losses, strict=True):
            self._count(name, one)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.student)
        return True

    def _measure(self, terms: Mapping[str, Tensor]) -> None:
        """How long each term's own gradient is, for the curves and for weights that are balanced by it."""
        body = [p for p in self.student.parameters() if p.requires_grad]
        norms = {}
        for name, value in terms.items():
            if value.requires_grad:
                found = torch.autograd.grad(value, body, retain_graph=True, allow_unused=True)
                squares = [piece.float().square().sum() for piece in found if piece is not None]
                norm = float(self.accelerator.reduce(torch.stack(squares).sum().sqrt(), "mean")) if squares else 0.0
                if math.isfinite(norm):
                    norms[name] = norm
                    self._count(f"gradient_norm.{name}", norm)
        self.objective.rebalance(norms)

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

    def _count(self, name: str, value: float) -> None:
        total = self.sums.setdefault(name, [0.0, 0.0])
        total[0] += value
        total[1] += 1.0

    def _look(self) -> None:
        """Close the epoch's curves and, when it is due, judge on validation rows."""
        said = {name: total / max(count, 1e-12) for name, (total, count) in self.sums.items()}
        for name in (*self.curves, *(name for name in said if name not in self.curves)):
            values = self.curves.setdefault(name, [None] * (self.epoch - 1))
            values.append(said.get(name))
        self.sums = {}
        if self.watch.validate is not None and (self.epoch % self.training.check_every == 0 or self.done >= self.total):
            kept = self._kept()
            value = self.watch.validate(kept.eval())
            self.student.train()
            self.validation[self.epoch] = said["validation"] = value
            sign = 1.0 if self.watch.higher_is_better else -1.0
            best = self.validation.get(self.best_epoch)
            if math.isfinite(value) and (best is None or sign * value > sign * best):
                self.best_epoch, self.best_state = self.epoch, checkpoint.copied(kept.state_dict())
            if self.watch.stop is not None and self.done < self.total:
                self.stopped = self.watch.stop(self.validation)
        if self.training.track:
            self.accelerator.log(said, step=self.done)

    def _kept(self) -> nn.Module:
        return self.average.module if self.average is not None else self.student

    def _patience_is_over(self) -> bool:
        patience = self.training.patience
        return patience is not None and bool(self.validation) and max(self.validation) - self.best_epoch >= patience

    def _finish(self, seconds: float) -> Taught:
        if not self.best_epoch:
            self.best_epoch, self.best_state = self.epoch, checkpoint.copied(self._kept().state_dict())
        # A mixed-precision forward is a wrapper on the student itself; it must not outlive the training.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.student.load_state_dict(self.best_state)
        self.student.eval()
        if self.training.track:
            self.accelerator.end_training()
        return Taught(self.curves, self.validation, self.best_epoch, self.done, seconds, self.stopped)

    def _place(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = self.accelerator.device
        if device.type == "cpu":
            return dict(batch)
        return {n: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for n, v in batch.items()}

    def _state(self) -> dict[str, Any]:
        """Everything the rest of the training depends on, but the brake and the state it goes back to."""
        return {
            "student": checkpoint.copied(self.student.state_dict()),
            "objective": checkpoint.copied(self.objective.state_dict()),
            "optimizer": checkpoint.copied(self.optimizer.state_dict()),
            "average": checkpoint.copied(self.average.state_dict()) if self.average is not None else None,
            "random": checkpoint.random_state(),
            "opened": self.opened,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "place": [self.epoch, self.step, self.done, self.best_epoch, self.spent],
            "best": self.best_state,
            "curves": {name: list(values) for name, values in self.curves.items()},
            "sums": {name: list(values) for name, values in self.sums.items()},
            "validation": dict(self.validation),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.objective.load_state_dict(state["objective"])
        # The optimiser keeps the tensors it is given and writes into them.
        self.optimizer.load_state_dict(checkpoint.copied(state["optimizer"]))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.opened = state["opened"]
        checkpoint.set_random_state(state["random"])
        self.epoch, self.step, self.done, self.best_epoch, self.spent = state["place"]
        self.best_state = state["best"]
        self.curves = {name: list(values) for name, values in state["curves"].items()}
        self.sums = {name: list(values) for name, values in state["sums"].items()}
        self.validation = dict(state["validation"])

    def _save_when_due(self) -> None:
        now = time.monotonic()
        if self.watch.folder is None or not self.pace.due(now):
            return
        self.spent = now - self.since
        if self.accelerator.is_main_process:
            at_good = not self.step and not self.brake.bad
            more = {"brake": asdict(self.brake), "good": None if at_good else self.good}
            checkpoint.save(self.watch.folder, {**self._state(), **more})
        self.pace.last = time.monotonic()
        self.pace.cost = self.pace.last - now

    def _resume(self) -> None:
        state = checkpoint.newest(self.watch.folder) if self.watch.folder is not None else None
        if state is not None:
            self._load(state)
            self.brake = Brake(**state["brake"])
            self.watch.teller.say(f"  {self.watch.name}: going on from epoch {self.epoch}")
        self.good = (state and state["good"]) or self._state()


def _accelerator(training: Training, watch: Watch) -> Accelerator:
    folder = watch.folder or Path("runs")
    # Accelerate keeps its precision for the whole process; a teacher and its student may differ in it.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=training.device == "cpu",
        mixed_precision=training.precision,
        log_with=list(training.track) or None,
        project_dir=str(folder.parent / "track") if training.track else None,
    )
    if training.track:
        accelerator.init_trackers(watch.name.replace(" ", "-"))
    return accelerator
