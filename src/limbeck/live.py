"""Modules that answer batches: calling them by name, freezing teachers, and the dry batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from limbeck.errors import NoSuchName, UserError
from limbeck.objective import Objective
from limbeck.taps import BIAS, HIDDEN, INPUT, WEIGHT, Taps
from limbeck.threat import ATTACKED
from limbeck.types import Array, Signals
from limbeck.weight import Source

Said = Mapping[str, Tensor]


class Knowledge(Protocol):
    """Stored answers, found by key: what an open store is to the loop."""

    def gather(self, id: Array, view: Array | None = None) -> Signals:
        """The signals of these rows, in this order."""
        ...


def as_batch(batch: Any) -> dict[str, Tensor]:
    """What a loader yields, by name.

    A mapping stays itself. A pair is the input `x` and the `label`; a third member is the `id`.
    """
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, Sequence) and not isinstance(batch, str) and 1 <= len(batch) <= 3:
        return dict(zip(("x", "label", "id"), batch, strict=False))
    raise UserError(f"the loader yields {type(batch).__name__}; yield a mapping of tensors, or (x, label[, id])")


def speaker(module: nn.Module, batch: Mapping[str, Tensor], who: str) -> Callable[[Mapping[str, Tensor]], Said]:
    """A function from a batch to the signals of a module.

    The module is called with the columns that its `forward` names; one that names none of them gets
    the single column `x`. A tensor in answer is the signal `logits`; a mapping, or an object with
    `logits`, says more.

    Args:
        module: called as it stands, in whatever mode it is in.
        batch: an example of what will come.
        who: `student` or `teacher`, for messages.
    """
    inner = module.module if isinstance(module, DistributedDataParallel) else module
    parameters = inspect.signature(inner.forward).parameters.values()
    named = [p.name for p in parameters if p.name in batch]
    wanted = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    needed = [name for name in wanted if name not in batch]
    if not named or needed:
        if "x" not in batch or (needed and len(wanted) > 1):
            lacking = ", ".join(needed) or "no column by name"
            raise UserError(f"{who}: forward wants {lacking}; the batch has {', '.join(batch)}")
        return lambda rows: _signals(module(rows["x"]), who)
    return lambda rows: _signals(module(**{name: rows[name] for name in named}), who)


def _signals(said: Any, who: str) -> Said:
    if isinstance(said, Tensor):
        return {"logits": said}
    if isinstance(said, Mapping):
        return said
    if isinstance(getattr(said, "logits", None), Tensor):
        return {"logits": said.logits}
    raise UserError(f"{who}: forward returns {type(said).__name__}; return a tensor of logits or signals by name")


def freeze(teacher: nn.Module) -> nn.Module:
    """Put a teacher in eval mode for good: no gradients, and no later `.train()` of a parent wakes it."""
    teacher.eval()
    teacher.requires_grad_(False)
    for module in teacher.modules():
        object.__setattr__(module, "train", _asleep(module))
    return teacher


def _asleep(module: nn.Module) -> Callable[[bool], nn.Module]:
    def train(mode: bool = True) -> nn.Module:  # noqa: ARG001  # as torch calls it
        return module

    return train


def recall(store: Knowledge, device: torch.device) -> Callable[[Mapping[str, Tensor]], Said]:
    """A function from a batch with `id` (and `view`) to stored signals on a device."""

    def gather(rows: Mapping[str, Tensor]) -> Said:
        if "id" not in rows:
            raise UserError("stored knowledge is found by key: the loader's batches need an 'id' column")
        view = rows["view"].cpu().numpy() if "view" in rows else None
        said = store.gather(rows["id"].cpu().numpy(), view)
        tensors = {name: torch.from_numpy(value).to(device) for name, value in said.items()}
        return Signals(tensors, said.kinds, tail_temperatures=said.tail_temperatures)

    return gather


def tapped(says: Callable[[Mapping[str, Tensor]], Said], taps: Taps) -> Callable[[Mapping[str, Tensor]], Said]:
    """What a module says, and what its tapped parts said meanwhile."""
    if not (taps.paths or taps.heads):
        return says

    def heard(rows: Mapping[str, Tensor]) -> Said:
        with taps.listening():
            said = says(rows)
        return {**said, **taps.read()}

    return heard


def knower(
    teacher: nn.Module | Knowledge | None, batch: Mapping[str, Tensor], device: torch.device, taps: Taps | None = None
) -> Callable[[Mapping[str, Tensor]], Said] | None:
    """A function from a batch to what a teacher says of it: a live one, frozen here and tapped, or a stored one."""
    if teacher is None:
        return None
    if not isinstance(teacher, nn.Module):
        return recall(teacher, device)
    says = speaker(freeze(teacher.to(device)), batch, "teacher")
    if taps is not None:
        says = tapped(says, taps)

    def answer(rows: Mapping[str, Tensor]) -> Said:
        with torch.no_grad():
            return says(rows)

    return answer


class Companion:
    """A network that others learn from while it changes: it answers as it stands, in eval mode, without gradients.

    Args:
        module: that still trains, or an average of one that does.
        taps: what is read of its inner parts.
        batch: an example of what will come.
        who: `average` or `peer`, for messages.
    """

    def __init__(self, module: nn.Module, taps: Taps, batch: Mapping[str, Tensor], who: str) -> None:
        self.module, self.taps = module, taps
        self._says = tapped(speaker(module, batch, who), taps)

    def __call__(self, rows: Mapping[str, Tensor]) -> Said:
        """What it says of these rows now."""
        training = self.module.training
        self.module.eval()
        try:
            with torch.no_grad():
                return self._says(rows)
        finally:
            self.module.train(training)


def dry_batch(
    student: nn.Module,
    objective: Objective,
    teacher: Callable[[Mapping[str, Tensor]], Said] | None,
    batch: Mapping[str, Tensor],
    *,
    attacked: bool = False,
) -> None:
    """Send one batch through everything without gradients, so that what cannot fit fails at once.

    The objective's projections take their sizes here; the student stands for its own average and for its peers, as
    all are of one shape. Where rows will be attacked, its answers to them are of the shape of its logits; nothing is
    attacked here. Neither the buffers of student and objective nor the random state move.

    Raises:
        UserError: shapes of student and teacher that do not fit, in words.
    """
    buffers = [b for module in (student, objective) for b in module.buffers() if not nn.parameter.is_lazy(b)]
    before = [buffer.clone() for buffer in buffers]
    with ExitStack() as opened:
        opened.enter_context(torch.random.fork_rng())
        opened.enter_context(torch.no_grad())
        taps = opened.enter_context(objective.taps(student, "student"))
        others = {who: opened.enter_context(objective.taps(student, who)) for who in objective.company}

        def company(source: Source) -> list[Said]:
            return [Companion(student, others[source], batch, source)(batch)]

        said = tapped(speaker(student, batch, "student"), taps)(batch)
        said = {**said, ATTACKED: said["logits"]} if attacked else said
        known = teacher(batch) if teacher else {}
        _compare(said, known, {name for term in objective.terms for name in getattr(term, "projects", ())})
        try:
            objective.size(said, known, batch, company)
            total, _ = objective(said, known, batch, company=company)
        except NoSuchName:
            raise
        except KeyError as lacking:
            raise UserError(
                f"a loss reads {lacking}; the student says {', '.join(said)}, "
                f"the teacher {', '.join(known) or 'nothing'}, beside {', '.join(batch)}"
            ) from None
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
    if total.dim() != 0:
        raise UserError(f"the objective answers a tensor of shape {tuple(total.shape)}; a loss is one number")


def _compare(student: Said, teacher: Said, projected: set[str]) -> None:
    for name in sorted(student.keys() & teacher.keys() - projected):
        ours, theirs = student[name], teacher[name]
        if name.startswith((HIDDEN, INPUT, WEIGHT, BIAS)) or (isinstance(ours, Tensor) and ours.shape[-1:] == (0,)):
            continue  # brought together by their terms; or nothing, of a head that is skipped
        if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor)):
            continue  # such as transformers' caches
        if ours.dim() != theirs.dim():
            raise UserError(f"student: '{name}' has {ours.dim()} axes, the teacher's has {theirs.dim()}")
        for axis, (a, b) in enumerate(zip(ours.shape, theirs.shape, strict=True), 1):
            if a != b:
                raise UserError(f"student: axis {axis} of '{name}' is {a}, not {b}")
