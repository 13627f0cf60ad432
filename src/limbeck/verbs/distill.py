"""Teach a student: one loop, in the open, with or without a teacher."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from limbeck import checkpoint
from limbeck.errors import Diverged, UserError
from limbeck.live import Knowledge, Said, as_batch, dry_batch, freeze, recall, speaker
from limbeck.loader import TableLoader
from limbeck.objective import Objective
from limbeck.progress import Teller
from limbeck.recipe import Training

LOOK_EVERY = 50
SKIPS, BRAKES = 3, 3
"""Non-finite losses in a row before going back to the last good state, and times that is done."""


@dataclass(frozen=True)
class Watch:
    """What goes on beside the steps.

    Args:
        validate: the student to its headline on validation rows; the best weights are kept by it.
        higher_is_better: of that headline.
        folder: where checkpoints go; without one a killed training starts again.
        teller: where progress goes.
        name: what progress and trackers call this training.
    """

    validate: Callable[[nn.Module], float] | None = None
    higher_is_better: bool = True
    folder: Path | None = None
    teller: Teller = field(default_factory=Teller)
    name: str = "student"


@dataclass(frozen=True)
class Taught:
    """What a training left behind; the student itself now has its best weights.

    Args:
        terms: name -> mean value an epoch; `loss`, each term, and `gradient_norm` every 50 steps.
        validation: epochs looked at -> headline.
        best: the epoch whose weights were kept, from 1.
        steps, seconds: what it took (over all runs, where it was resumed).
    """

    terms: Mapping[str, list[float]]
    validation: Mapping[int, float]
    best: int
    steps: int
    seconds: float


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
    return _Teaching(student, loader, teacher, objective, training or Training(), watch or Watch()).run()


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
        first = self._place(as_batch(next(iter(_batches(loader, 0, 0)))))
        student.to(device).train()
        objective.to(device).train()
        self.knows = _knower(teacher, first, device)
        if objective.needs_teacher and self.knows is None:
            raise UserError("the objective has terms that need a teacher, and none is given")
        if not objective.needs_teacher:
            self.knows = None
        dry_batch(student, objective, self.knows, first)
        self.model = self.accelerator.prepare(student)
        self.terms = self.accelerator.prepare(objective) if list(objective.parameters()) else objective
        self.learnt = [p for p in (*student.parameters(), *objective.parameters()) if p.requires_grad]
        self.optimizer = self.accelerator.prepare(_optimizer(self.learnt, training))
        self.says = speaker(self.model, first, "student")
        self.average = _average(student, training)
        self.total = min(training.epochs * len(loader), training.steps or training.epochs * len(loader))
        self.epoch, self.step, self.done, self.brake = 0, 0, 0, 1.0
        self.sums: dict[str, list[float]] = {}
        self.curves: dict[str, list[float]] = {}
        self.validation: dict[int, float] = {}
        self.best_epoch, self.best_state = 0, _copied(student)
        self.spent, self.since, self.saved = 0.0, 0.0, 0.0

    def run(self) -> Taught:
        self._resume()
        self.since, self.saved = time.monotonic() - self.spent, time.monotonic()
        rollbacks = 0
        good = self._state()
        with self.watch.teller.bar(self.watch.name, self.total, "steps") as advance:
            advance(self.done)
            while self.done < self.total and not self._patience_is_over():
                if self._one_epoch(advance):
                    rollbacks += 1
                    if rollbacks > BRAKES:
                        raise Diverged(
                            f"{self.watch.name}: the loss is not finite after {BRAKES} returns to the last good state, "
                            f"each at half the rate; lower training.learning_rate (now {self.training.learning_rate})"
                        )
                    slower = self.brake / 2
                    self._load(good)
                    self.brake = slower
                    continue
                self._look()
                good = self._state()
                self._save_when_due()
        return self._finish(time.monotonic() - self.since)

    def _one_epoch(self, advance: Callable[[int, str], None]) -> bool:
        """Steps to the epoch's end; true if the loss stayed non-finite and the epoch must be undone."""
        bad = 0
        for batch in _batches(self.loader, self.epoch, self.step):
            finite = self._one_step(self._place(as_batch(batch)))
            self.step += 1
            self.done += 1
            bad = 0 if finite else bad + 1
            if bad >= SKIPS:
                return True
            advance(1, "")
            if self.done >= self.total:
                break
            self._save_when_due()
        self.epoch += 1
        self.step = 0
        return False

    def _one_step(self, batch: Mapping[str, Tensor]) -> bool:
        """Forward, backward, update. A non-finite loss updates nothing and answers false."""
        rate = self.training.learning_rate * self.brake * _schedule(self.training, self.done / max(self.total, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = 0.0
        for part, share, last in _parts(batch, self.training.accumulate):
            known = self.knows(part) if self.knows else {}
            with self.accelerator.autocast():
                value, terms = self.terms(self.says(part), known, part)
            now = float(value.detach())
            if not math.isfinite(now):
                self.optimizer.zero_grad()
                return False
            loss += now * share
            if last:
                self.accelerator.backward(value * share if share != 1.0 else value)
            else:
                with self.accelerator.no_sync(self.model):
                    self.accelerator.backward(value * share)
            for name, term in terms.items():
                self._count(name, float(term), share)
        look = self.done % LOOK_EVERY == 0
        if self.training.clip is not None or look:
            norm = float(self.accelerator.clip_grad_norm_(self.learnt, self.training.clip or math.inf))
            if not math.isfinite(norm):
                self.optimizer.zero_grad()
                return False
            if look:
                self._count("gradient_norm", norm, 1.0)
        self._count("loss", loss, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.student)
        return True

    def _count(self, name: str, value: float, share: float) -> None:
        total = self.sums.setdefault(name, [0.0, 0.0])
        total[0] += value * share
        total[1] += share

    def _look(self) -> None:
        """Close the epoch's curves and, when it is due, judge on validation rows."""
        for name, (total, count) in self.sums.items():
            self.curves.setdefault(name, []).append(total / max(count, 1e-12))
        self.sums = {}
        said = {name: values[-1] for name, values in self.curves.items()}
        if self.watch.validate is not None and (
            self.epoch % self.training.check_every == 0 or self.done >= self.total
        ):
            kept = self._kept()
            value = self.watch.validate(kept.eval())
            self.student.train()
            self.validation[self.epoch] = said["validation"] = value
            sign = 1.0 if self.watch.higher_is_better else -1.0
            best = self.validation.get(self.best_epoch)
            if math.isfinite(value) and (best is None or sign * value > sign * best):
                self.best_epoch, self.best_state = self.epoch, _copied(kept)
        if self.training.track:
            self.accelerator.log(said, step=self.done)

    def _kept(self) -> nn.Module:
        return self.average.module if self.average is not None else self.student

    def _patience_is_over(self) -> bool:
        patience = self.training.patience
        return patience is not None and bool(self.validation) and self.epoch - self.best_epoch >= patience

    def _finish(self, seconds: float) -> Taught:
        if not self.validation:
            self.best_epoch, self.best_state = self.epoch, _copied(self._kept())
        # A mixed-precision forward is a wrapper on the student itself; it must not outlive the training.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.student.load_state_dict(self.best_state)
        self.student.eval()
        if self.training.track:
            self.accelerator.end_training()
        return Taught(self.curves, self.validation, self.best_epoch, self.done, seconds)

    def _place(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = self.accelerator.device
        if device.type == "cpu":
            return dict(batch)
        return {n: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for n, v in batch.items()}

    def _state(self) -> dict[str, Any]:
        """Everything the rest of the training depends on."""
        return {
            "student": _copied(self.student),
            "objective": _copied(self.objective),
            "optimizer": _copied_deep(self.optimizer.state_dict()),
            "average": _copied(self.average) if self.average is not None else None,
            "random": checkpoint.random_state(),
            "place": [self.epoch, self.step, self.done, self.brake, self.best_epoch, self.spent],
            "best": self.best_state,
            "curves": {name: list(values) for name, values in self.curves.items()},
            "sums": {name: list(values) for name, values in self.sums.items()},
            "validation": dict(self.validation),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        checkpoint.set_random_state(state["random"])
        self.epoch, self.step, self.done, self.brake, self.best_epoch, self.spent = state["place"]
        self.best_state = state["best"]
        self.curves = {name: list(values) for name, values in state["curves"].items()}
        self.sums = {name: list(values) for name, values in state["sums"].items()}
        self.validation = dict(state["validation"])

    def _save_when_due(self) -> None:
        now = time.monotonic()
        if self.watch.folder is None or now - self.saved < self.training.checkpoint_seconds:
            return
        self.spent, self.saved = now - self.since, now
        if self.accelerator.is_main_process:
            checkpoint.save(self.watch.folder, self.done, self._state())

    def _resume(self) -> None:
        state = checkpoint.newest(self.watch.folder) if self.watch.folder is not None else None
        if state is not None:
            self._load(state)
            self.watch.teller.say(f"  {self.watch.name}: going on from epoch {self.epoch}")


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


def _knower(
    teacher: nn.Module | Knowledge | None, batch: Mapping[str, Tensor], device: torch.device
) -> Callable[[Mapping[str, Tensor]], Said] | None:
    if teacher is None:
        return None
    if not isinstance(teacher, nn.Module):
        return recall(teacher, device)
    says = speaker(freeze(teacher.to(device)), batch, "teacher")

    def answer(rows: Mapping[str, Tensor]) -> Said:
        with torch.no_grad():
            return says(rows)

    return answer


def _optimizer(learnt: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
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


def _schedule(training: Training, share: float) -> float:
    """The factor on the learning rate when a share of all steps is done."""
    if share < training.warmup:
        return share / training.warmup + 1e-3
    rest = (share - training.warmup) / (1.0 - training.warmup)
    if training.schedule == "linear":
        return 1.0 - rest
    return 0.5 * (1.0 + math.cos(math.pi * rest)) if training.schedule == "cosine" else 1.0


def _average(student: nn.Module, training: Training) -> AveragedModel | None:
    if training.ema is None:
        return None
    decayed = get_ema_multi_avg_fn(training.ema)  # type: ignore[no-untyped-call]  # torch's
    return AveragedModel(student, multi_avg_fn=decayed, use_buffers=True)


def _batches(loader: Any, epoch: int, start: int) -> Iterator[Any]:
    if isinstance(loader, TableLoader):
        yield from loader.batches(epoch, start)
        return
    if hasattr(getattr(loader, "sampler", None), "set_epoch"):
        loader.sampler.set_epoch(epoch)
    for index, batch in enumerate(loader):
        if index >= start:
            yield batch


def _parts(batch: Mapping[str, Tensor], count: int) -> Iterator[tuple[Mapping[str, Tensor], float, bool]]:
    """A batch in `count` parts, each with its share of the rows, and whether it is the last."""
    rows = len(next(iter(batch.values())))
    count = min(count, rows)
    if count <= 1:
        yield batch, 1.0, True
        return
    edges = [rows * i // count for i in range(count + 1)]
    for i in range(count):
        part = {name: value[edges[i] : edges[i + 1]] for name, value in batch.items()}
        yield part, (edges[i + 1] - edges[i]) / rows, i == count - 1


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _copied_deep(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied_deep(inner) for key, inner in value.items()}
    return [_copied_deep(inner) for inner in value] if isinstance(value, list | tuple) else value
