"""Teach a student: one loop, in the open, with or without a teacher."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from limbeck import checkpoint
from limbeck.descent import Brake, flushed, schedule
from limbeck.errors import UserError
from limbeck.learner import Learner, Moment
from limbeck.live import Knowledge, as_batch, knower
from limbeck.loader import TableLoader, batches_of, count_of
from limbeck.objective import Objective
from limbeck.progress import Teller
from limbeck.recipe import Training

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
    peers: Sequence[nn.Module] = (),
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
        peers: networks of the student's shape that train beside it, in place, each on the same objective, where a
            term learns from `peers`; they are left with their last weights.

    Returns:
        Curves; the student is left in eval mode with the best weights by validation, or the last.

    Source: peers: deep mutual learning (Zhang et al. 2018), whose networks step in turn, each seeing the others as
    they then are; the average of weights as a teacher: Tarvainen and Valpola 2017 (mean teacher).

    Raises:
        UserError: parts that do not fit, found by a dry batch before any step.
        Diverged: losses stay non-finite after skipping, going back and slowing down.
    """
    with flushed():
        training, watch = training or Training(), watch or Watch()
        with _Teaching([student, *peers], loader, teacher, objective, training, watch) as teaching:
            return teaching.run()


class _Teaching:
    """The state of one training, and its loop."""

    def __init__(  # as `distill` is called
        self,
        modules: Sequence[nn.Module],
        loader: Any,
        teacher: nn.Module | Knowledge | None,
        objective: Objective,
        training: Training,
        watch: Watch,
    ) -> None:
        _check_company(objective, training, len(modules))
        self.student, self.loader = modules[0], loader
        self.training, self.watch = training, watch
        self.accelerator = _accelerator(training, watch)
        device = self.accelerator.device
        if isinstance(loader, TableLoader):
            loader.process, loader.processes = self.accelerator.process_index, self.accelerator.num_processes
        whole = training.epochs * count_of(loader)
        self.total = min(whole, training.steps or whole)
        first = self._place(as_batch(next(iter(batches_of(loader, 0)))))
        if objective.needs_teacher and teacher is None:
            raise UserError("the objective has terms that need a teacher, and none is given")
        with ExitStack() as opened:
            live = teacher if isinstance(teacher, nn.Module) else None
            theirs = opened.enter_context(objective.taps(live, "teacher")) if live is not None else None
            knows = knower(teacher if objective.needs_teacher else None, first, device, theirs)
            self.learners: list[Learner] = []
            for module, own in zip(modules, [objective, *(deepcopy(objective) for _ in modules[1:])], strict=True):
                learner = Learner(module.to(device), own.to(device), training, self.accelerator, first, knows)
                self.learners.append(learner)
                opened.callback(learner.close)
            for learner in self.learners:
                learner.meet([other for other in self.learners if other is not learner], first)
            self.opened_taps = opened.pop_all()
        self.learner = self.learners[0]
        self.epoch, self.step, self.done, self.brake = 0, 0, 0, Brake()
        self.opened = checkpoint.random_state()
        self.sums: dict[str, list[float]] = {}
        self.curves: dict[str, list[float | None]] = {}
        self.validation: dict[int, float] = {}
        self.best_epoch, self.best_state = 0, checkpoint.copied(self.student.state_dict())
        self.stopped = False
        self.spent, self.since, self.pace = 0.0, 0.0, checkpoint.Pace(training.checkpoint_seconds)
        self.good: Mapping[str, Any] = {}

    def __enter__(self) -> _Teaching:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened_taps.close()

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
        return all(learner.finite for learner in self.learners)

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
        """Everybody's step, in turn; false where a loss was not finite."""
        progress = self.done / max(self.total, 1)
        rate = self.training.learning_rate * self.brake.factor * schedule(self.training, progress)
        now = Moment(progress, rate, look=self.done % LOOK_EVERY == 0)
        took = [self.learner.step(batch, now, self._count)]
        took += [peer.step(batch, now, _uncounted) for peer in self.learners[1:]]
        return all(took)

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
            kept = self.learner.kept
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

    def _patience_is_over(self) -> bool:
        patience = self.training.patience
        return patience is not None and bool(self.validation) and max(self.validation) - self.best_epoch >= patience

    def _finish(self, seconds: float) -> Taught:
        if not self.best_epoch:
            self.best_epoch, self.best_state = self.epoch, checkpoint.copied(self.learner.kept.state_dict())
        # A mixed-precision forward is a wrapper on the student itself; it must not outlive the training.
        for learner in self.learners:
            self.accelerator.unwrap_model(learner.model, keep_fp32_wrapper=False)
            learner.module.eval()
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
            "learners": [learner.state() for learner in self.learners],
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
        for learner, own in zip(self.learners, state["learners"], strict=True):
            learner.load(own)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
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


def _check_company(objective: Objective, training: Training, learners: int) -> None:
    """Whoever a term learns from must be there, and peers that nobody learns from are a mistake."""
    if ("peers" in objective.company) != (learners > 1):
        told = "a term learns from peers, and there are none" if learners == 1 else "no term learns from the peers"
        raise UserError(f"{told}; give distill() peers and a term whose source is 'peers', or neither")
    if "average" in objective.company and training.ema is None:
        raise UserError("a term learns from averaged weights; say how slowly they move, such as training.ema: 0.999")


def _uncounted(name: str, value: float) -> None:
    """A peer has no curves: only the student is judged."""


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
