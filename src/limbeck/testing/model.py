"""The contract of families of models."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck import parts
from limbeck.errors import LimbeckError
from limbeck.picture import blank
from limbeck.task import Problem
from limbeck.testing.answer import check_signals, need, same
from limbeck.testing.teacher import check_teacher
from limbeck.types import Batch, Lists

if TYPE_CHECKING:
    from limbeck.model import Family


def check_model(family: Family, problem: Problem) -> None:
    """Hold a family of models to what training, saving and serving rely on.

    The encoder is fitted on training rows only and reads no column outside `problem.reads`; the module takes the
    encoder's tensors by name and depends on nothing but settings, encoder and seed; signals have declared kinds
    and the length of the axis; values never seen in training and empty rows are answered; a row alone is
    answered as in a batch; saved and loaded it is the same.

    Args:
        family: with its settings; a file in `models/`, or an entry point.
        problem: small, with some training rows.

    Raises:
        AssertionError: a promise is broken; says which.
    """
    import torch

    from limbeck.model import Model

    none = problem.train.slice(0, 0)
    encoder = family.encoder(problem)
    alone = family.encoder(dataclasses.replace(problem, validation=none, test=none, unlabelled=None))
    need(encoder.fingerprint == alone.fingerprint, "the encoder is fitted on more than training rows")
    outside = [name for name in encoder.reads if name not in problem.reads]
    need(not outside, f"it reads {outside}, which students of this task may not see")
    modules = []
    for _ in range(2):
        torch.manual_seed(0)
        modules.append(family.module(encoder, len(problem.axis)))
    first, second = (module.state_dict() for module in modules)
    equal = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    need(equal, "two modules of one seed start differently")
    rows = problem.train.slice(0, 8)
    taken = inspect.signature(modules[0].forward).parameters
    tensors = encoder(rows.batch(encoder.reads))
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        needed = {name for name, p in taken.items() if p.default is p.empty}
        fits = needed <= set(tensors) <= set(taken)
        need(fits, f"forward takes {sorted(taken)}, the encoder makes {sorted(tensors)}")
    settings = {f.name: getattr(family, f.name) for f in dataclasses.fields(family)}  # type: ignore[arg-type]  # families are dataclasses
    model = Model(_name_of(family), settings, encoder, modules[0], len(problem.axis))
    check_teacher(model, rows)
    said = model(rows.batch(model.reads))
    for name, value in said.items():
        if said.kinds.get(name) in {"logits", "scores"}:
            long = value.ndim == 2 and value.shape[1] == len(problem.axis)
            need(long, f"'{name}' has shape {value.shape}, not (B, {len(problem.axis)})")
    for what, empty in (("values never seen in training", False), ("empty values", True)):
        try:
            answer = model(_strange(rows.batch(model.reads), empty))
        except (LimbeckError, ValueError, LookupError, RuntimeError) as wrong:
            raise AssertionError(f"it fails when it is told of {what}: {wrong}") from wrong
        check_signals(answer, len(rows), f", told of {what}")
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        loaded = Model.load(Path(folder))
        need(loaded.fingerprint == model.fingerprint, "saved and loaded, its fingerprint is another")
        same(loaded(rows.batch(loaded.reads)), said, "saved and loaded, it answers differently", tolerance=0)


def _name_of(family: Family) -> str:
    """The name under which `parts` finds the family: its file's, or an entry point's."""
    file = type(family).__module__.rpartition(".")[2]
    for name in [file, *parts.names("models")]:
        if name in parts.names("models") and parts.get("models", name) is type(family):
            return name
    raise AssertionError(
        f"no model is offered as {type(family).__name__}: neither a file in models/ nor an entry point"
    )


def _strange(batch: Batch, empty: bool) -> Batch:
    """Empty texts, lists and pictures; or others of the same types: texts nobody writes, one number far above most."""

    def change(values: Any) -> Any:
        if isinstance(values, Lists):
            nothing = Lists(values.values[:0], np.zeros_like(values.offsets))
            return nothing if empty else Lists(change(values.values), values.offsets)
        if isinstance(values, list) and values and isinstance(values[0], bytes):
            return [blank()] * len(values)
        if isinstance(values, list):
            return ["" if empty else f"{text}\u2603never seen" for text in values]
        if empty or values.dtype.kind not in "iu":
            return values
        return np.full_like(values, min(1_000_003, np.iinfo(values.dtype).max))

    return Batch({name: change(column) for name, column in batch.items()}, batch.key)
