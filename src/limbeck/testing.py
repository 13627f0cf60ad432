"""Contracts that every part keeps; public, so that other packages can hold their own parts to them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck import parts
from limbeck.errors import LimbeckError, UserError
from limbeck.task import Judgement, Problem, Source, Task
from limbeck.types import KINDS, Array, Batch, Lists, Predictor, Rows, Signals

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.model import Family
    from limbeck.objective import Term

TOLERANCE = 1e-5
"""How far two answers to one row may be apart: absolute, and relative to them."""


def check_teacher(predictor: Predictor, rows: Rows) -> None:
    """Hold a predictor to the arrow's promises.

    Equal batches are answered equally; splitting a batch changes nothing (to 1e-5); permuted rows get permuted
    answers; only the columns of `reads` are needed, and others change nothing; batches are left as they were;
    every signal has a known kind, one entry a row, and is finite or, as a mask, -inf; the fingerprint is stable.

    Args:
        predictor: a teacher, a student, a store.
        rows: two rows or more that it knows.

    Raises:
        AssertionError: a promise is broken; says which.
    """
    _need(len(rows) >= 2, f"give at least 2 rows, not {len(rows)}: a batch of 1 cannot be split or permuted")
    told = predictor.fingerprint
    _need(isinstance(told, str) and told != "", "the fingerprint must be a text that is not empty")
    unknown = [name for name in predictor.reads if name not in rows.names]
    _need(not unknown, f"`reads` names columns that the rows lack: {unknown}")
    raw = rows.batch(predictor.reads)
    kept, batch = raw.columns, Batch(copy.deepcopy(raw.columns), raw.key)  # Arrow's own memory cannot be written to
    try:
        whole = predictor(batch)
    except UserError as wrong:
        raise AssertionError(f"it fails when it is given only the columns of `reads`: {wrong}") from wrong
    _check_signals(whole, len(rows))
    same = all(_same_column(batch[name], kept[name]) for name in kept)
    _need(same, "it changed the columns of the batch; answer from copies")
    _same(predictor(rows.batch(predictor.reads)), whole, "two equal batches are answered differently", tolerance=0)
    _same(predictor(rows.batch()), whole, "columns outside `reads` change the answer")
    half = len(rows) // 2
    for start, stop in ((0, half), (half, len(rows)), (0, 1), (len(rows) - 1, len(rows))):
        part = predictor(rows.slice(start, stop).batch(predictor.reads))
        _same(part, _rows_of(whole, np.arange(start, stop)), f"rows {start} to {stop} alone are answered differently")
    order = np.random.default_rng(0).permutation(len(rows))
    permuted = predictor(rows.take(order).batch(predictor.reads))
    _same(permuted, _rows_of(whole, order), "permuting the rows does not permute the answers")
    _need(predictor.fingerprint == told, "the fingerprint changed by being used")


@dataclass(frozen=True)
class Outputs:
    """What a loss is tried on: signals of student and teacher and a batch, by name, first axis B."""

    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]
    batch: Mapping[str, Tensor]


def example_outputs(rows: int = 6, classes: int = 5) -> Outputs:
    """Random signals under the names that Limbeck's tasks use.

    `logits` and `scores` (B, C), `steps` (B, 4, C), `embedding` (B, 8), the teacher's (B, 12); in the batch
    `label` and `weight` (B,), `targets` (B, 2) positions, `history` (B, 4) ids and `outputs` (B,), which is C.
    """
    import torch

    torch.manual_seed(0)
    wide = {"logits": (classes,), "scores": (classes,), "steps": (4, classes)}
    student = {name: torch.randn(rows, *shape) for name, shape in {**wide, "embedding": (8,)}.items()}
    teacher = {name: torch.randn(rows, *shape) for name, shape in {**wide, "embedding": (12,)}.items()}
    label = torch.arange(rows) % classes
    targets = torch.stack([label, torch.where(label % 2 == 0, (label + 1) % classes, -1)], 1)
    history, many = torch.randint(2, classes + 2, (rows, 4)), torch.full((rows,), classes)
    batch = {"label": label, "targets": targets, "history": history, "weight": torch.ones(rows), "outputs": many}
    return Outputs(student, teacher, batch)


def check_loss(term: Term, *, outputs: Outputs | None = None, rowwise: bool = True) -> None:
    """Hold a loss to what training relies on.

    The value is a finite scalar; its gradient is finite and reaches the student, never the teacher; what it says
    it needs of a teacher is true; permuting the rows changes nothing (to 1e-5), nor does doubling the batch;
    bfloat16 signals are answered within 5%; an objective's weight multiplies it; the batch is left as it
    was; its soft target, if it offers one, is finite.

    Args:
        term: fresh; it is copied before every use, so it may have state.
        outputs: signals it reads; by default `example_outputs()`.
        rowwise: false where rows are compared with one another: there a doubled batch is another batch.

    Raises:
        AssertionError: a promise is broken; says which.
    """
    import torch

    from limbeck.objective import Objective

    given = outputs or example_outputs()
    value = _check_gradient(term, given)

    def near(other: Outputs, words: str, tolerance: float = TOLERANCE) -> None:
        found = _loss(term, other)[0].item()
        _need(abs(found - value) <= tolerance * (1 + abs(value)), f"{words}: {value:.6g} becomes {found:.6g}")

    if term.needs_teacher:
        other = dataclasses.replace(given, teacher={n: t.roll(1, -1) * 1.5 for n, t in given.teacher.items()})
        changed = _loss(term, other)[0].item() != value
        _need(changed, "another teacher changes nothing; set needs_teacher = False on a hard loss")
    else:
        near(dataclasses.replace(given, teacher={}), "needs_teacher is false, but without a teacher the value changes")
    order = torch.arange(next(iter(given.student.values())).shape[0]).roll(2)
    near(_each(given, lambda t: t[order]), "permuting the rows changes the value")
    if rowwise:
        near(_each(given, lambda t: torch.cat([t, t])), "doubling the batch changes the value")
    half = _each(given, lambda t: t.bfloat16() if t.is_floating_point() else t)
    near(half, "bfloat16 signals change the value by more than 5%", 0.05)
    total, _ = Objective([("term", copy.deepcopy(term), 0.5)])(given.student, given.teacher, given.batch)
    halved = abs(total.item() - 0.5 * value) <= TOLERANCE * (1 + abs(value))
    _need(halved, f"half the weight makes {total.item():.6g} of {value:.6g}")
    soft = copy.deepcopy(term).target(given.teacher, given.batch)
    if soft is not None:
        sound = soft.shape[0] == len(order) and bool(torch.isfinite(soft).all())
        _need(sound, "its soft target is not finite (B, ...)")


def _check_gradient(term: Term, given: Outputs) -> float:
    """The value, once it and its gradient are found sound."""
    import torch

    kept = copy.deepcopy(dict(given.batch))
    value, student, teacher = _loss(term, given)
    _need(value.shape == (), f"the value has shape {tuple(value.shape)}; a loss is a scalar")
    _need(bool(torch.isfinite(value)), f"the value is {value.item()}")
    _need(value.requires_grad, "no gradient reaches the student")
    value.backward()  # type: ignore[no-untyped-call]
    reached = [t.grad for t in student.values() if t.grad is not None]
    _need(all(bool(torch.isfinite(g).all()) for g in reached), "the student's gradient is NaN or infinite")
    _need(any(bool(g.any()) for g in reached), "no gradient reaches the student")
    leaked = [name for name, t in teacher.items() if t.grad is not None and bool(t.grad.any())]
    _need(not leaked, f"gradient reaches the teacher's {', '.join(leaked)}; detach them")
    _need(all(torch.equal(kept[n], given.batch[n]) for n in kept), "it changes the tensors of the batch")
    return value.item()


def _loss(term: Term, outputs: Outputs) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The value on fresh leaves, by a copy of the term, with the same random numbers every time."""
    import torch

    def leaves(signals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: t.detach().clone().requires_grad_(t.is_floating_point()) for n, t in signals.items()}

    torch.manual_seed(0)
    student, teacher = leaves(outputs.student), leaves(outputs.teacher)
    return copy.deepcopy(term)(student, teacher, outputs.batch), student, teacher


def _each(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    return Outputs(*({n: change(t) for n, t in getattr(outputs, f.name).items()} for f in dataclasses.fields(outputs)))


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
    _need(encoder.fingerprint == alone.fingerprint, "the encoder is fitted on more than training rows")
    outside = [name for name in encoder.reads if name not in problem.reads]
    _need(not outside, f"it reads {outside}, which students of this task may not see")
    modules = []
    for _ in range(2):
        torch.manual_seed(0)
        modules.append(family.module(encoder, len(problem.axis)))
    first, second = (module.state_dict() for module in modules)
    equal = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    _need(equal, "two modules of one seed start differently")
    rows = problem.train.slice(0, 8)
    taken = inspect.signature(modules[0].forward).parameters
    tensors = encoder(rows.batch(encoder.reads))
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        needed = {name for name, p in taken.items() if p.default is p.empty}
        fits = needed <= set(tensors) <= set(taken)
        _need(fits, f"forward takes {sorted(taken)}, the encoder makes {sorted(tensors)}")
    settings = {f.name: getattr(family, f.name) for f in dataclasses.fields(family)}  # type: ignore[arg-type]
    model = Model(_name_of(family), settings, encoder, modules[0], len(problem.axis))
    check_teacher(model, rows)
    said = model(rows.batch(model.reads))
    for name, value in said.items():
        if said.kinds.get(name) in {"logits", "scores"}:
            long = value.ndim == 2 and value.shape[1] == len(problem.axis)
            _need(long, f"'{name}' has shape {value.shape}, not (B, {len(problem.axis)})")
    for what, empty in (("values never seen in training", False), ("empty values", True)):
        try:
            answer = model(_strange(rows.batch(model.reads), empty))
        except (LimbeckError, ValueError, LookupError, RuntimeError) as wrong:
            raise AssertionError(f"it fails when it is told of {what}: {wrong}") from wrong
        _check_signals(answer, len(rows), f", told of {what}")
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        loaded = Model.load(Path(folder))
        _need(loaded.fingerprint == model.fingerprint, "saved and loaded, its fingerprint is another")
        _same(loaded(rows.batch(loaded.reads)), said, "saved and loaded, it answers differently", tolerance=0)


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
    """Empty texts and lists; or others of the same types: texts nobody writes, and one number far above most."""

    def change(values: Any) -> Any:
        if isinstance(values, Lists):
            nothing = Lists(values.values[:0], np.zeros_like(values.offsets))
            return nothing if empty else Lists(change(values.values), values.offsets)
        if isinstance(values, list):
            return ["" if empty else f"{text}\u2603never seen" for text in values]
        if empty or values.dtype.kind not in "iu":
            return values
        return np.full_like(values, min(1_000_003, np.iinfo(values.dtype).max))

    return Batch({name: change(column) for name, column in batch.items()}, batch.key)


def check_task(
    task: Task,
    source: Source,
    *,
    options: Mapping[str, Any] | None = None,
    oracle: Callable[[Rows, Problem], Array] | None = None,
) -> None:
    """Hold a task to what honest reports rely on.

    Preparing twice gives the same problem; no row is in two parts; targets have one entry a row; the judgement's
    metrics are those of its columns, and permuting the rows leaves them; an oracle beats a random predictor in
    the headline; people get one answer a row.

    Args:
        task: with the options it is prepared with by default.
        source: rows with the task's roles, enough that each of three parts holds some.
        options: of `prepare`, where the defaults will not do.
        oracle: (rows, problem) -> the main signal (N, C) of one who knows the targets; by default made of the
            first of `task.targets`: a class or positions a row.

    Raises:
        AssertionError: a promise is broken; says which.
    """
    part = np.random.default_rng(0).choice(3, len(source.rows), p=(0.6, 0.2, 0.2))
    settings = {**task.options, **(options or {})}
    problem = task.prepare(source, part, settings)
    again = task.prepare(source, part, settings)
    _need(problem.fingerprint == again.fingerprint, "preparing the same rows twice gives two problems")
    seen: dict[tuple[str, int, int], str] = {}
    for name in ("train", "validation", "test"):
        key = getattr(problem, name).key
        _need(len(key) > 0, f"no row is left for {name}; give a larger source")
        for row in zip([key.source] * len(key), key.id.tolist(), key.view.tolist(), strict=True):
            _need(seen.setdefault(row, name) == name, f"row {row[1]} is in {seen[row]} and in {name}")
    for name, values in task.targets(problem.test, problem).items():
        _need(
            len(values) == len(problem.test), f"target '{name}' has {len(values)} entries for {len(problem.test)} rows"
        )
    knowing = _Says(task, problem, oracle or _oracle(task), problem.reads)
    guessing = _Says(task, problem, _noise, problem.reads)
    judged = [task.judge(predictor, problem.test, problem) for predictor in (knowing, guessing)]
    for one in judged:
        _check_judgement(task, one, len(problem.test))
    best, chance = (one.metrics[task.headline] for one in judged)
    won = best > chance if task.higher_is_better else best < chance
    _need(won, f"{task.headline} is {best:.4g} of an oracle and {chance:.4g} of a random predictor")
    order = np.random.default_rng(1).permutation(len(problem.test))
    apart = task.apart(*judged)
    _need(apart.shape == (len(problem.test),) and apart.min() >= 0 and apart.max() <= 1, "apart is not (N,) in [0, 1]")
    _need(not task.apart(judged[0], judged[0]).any(), "a predictor is apart from itself")
    shown = [task.show(problem, one, 0) for one in judged]
    _need(all({"truth", "answer"} <= set(one) for one in shown), "show names no 'truth' or no 'answer'")
    _need(shown[0]["truth"] == shown[1]["truth"], "what row 0 wanted depends on who is asked")
    shuffled = task.judge(guessing, problem.test.take(order), problem)
    for name, value in judged[1].metrics.items():
        _need(_close(shuffled.metrics[name], value, 1e-6), f"permuting the rows changes {name}")
    batch = problem.test.slice(0, 3).batch()
    answers = task.answer(knowing(batch), problem.axis, batch, 2)
    _need(len(answers) == len(batch.key), f"{len(batch.key)} rows got {len(answers)} answers")


def _check_judgement(task: Task, judged: Judgement, rows: int) -> None:
    _need(set(judged.metrics) == set(task.metrics), f"judged {sorted(judged.metrics)}, promised {sorted(task.metrics)}")
    for name, metric in task.metrics.items():
        found, said = metric(judged.columns), judged.metrics[name]
        _need(_close(found, said, 1e-9), f"{name} is {said} in the judgement and {found} of its columns")
    for name, values in {"unit": judged.unit, "top": judged.top, **judged.columns}.items():
        _need(len(values) == rows, f"the judgement's '{name}' has {len(values)} entries for {rows} rows")


@dataclass(frozen=True)
class _Says:
    """A predictor that says what a function of the rows tells it, looked up by key."""

    task: Task
    problem: Problem
    tell: Callable[[Rows, Problem], Array]
    reads: tuple[str, ...]
    fingerprint: str = "testing"

    def __call__(self, batch: Batch) -> Signals:
        at = {int(key): position for position, key in enumerate(self.problem.test.id)}
        rows = self.problem.test.take(np.array([at[int(key)] for key in batch.key.id], np.int64))
        name, kind = self.task.signal
        return Signals({name: self.tell(rows, self.problem)}, {name: kind})


def _noise(rows: Rows, problem: Problem) -> Array:
    """Random numbers that belong to a row's id, so that order does not matter."""
    drawn = [np.random.default_rng([7, int(key)]).normal(size=len(problem.axis)) for key in rows.id]
    return np.array(drawn).astype(np.float32)


def _oracle(task: Task) -> Callable[[Rows, Problem], Array]:
    def tell(rows: Rows, problem: Problem) -> Array:
        target = next(iter(task.targets(rows, problem).values()))
        whole = np.issubdtype(target.dtype, np.integer) and target.ndim <= 2
        _need(whole, "the first target is no class or position; give an `oracle`")
        positions = target.reshape(len(rows), -1)
        answer = np.zeros((len(rows), len(problem.axis) + 1), np.float32)
        np.put_along_axis(answer, np.where(positions < 0, len(problem.axis), positions), 10.0, 1)
        return answer[:, :-1]

    return tell


def _need(kept: bool, words: str) -> None:
    """An assertion that `python -O` does not drop."""
    if not kept:
        raise AssertionError(words)


def _close(found: float, wanted: float, tolerance: float) -> bool:
    return bool(np.isclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True))


def _check_signals(said: Signals, rows: int, where: str = "") -> None:
    _need(len(said) > 0, f"it says nothing{where}")
    for name, value in said.items():
        kind, numbers = said.kinds[name.split(".")[0]], np.asarray(value)
        _need(kind in KINDS, f"'{name}' is of the unknown kind '{kind}'{where}")
        _need(numbers.ndim > 0 and len(numbers) == rows, f"'{name}' has shape {numbers.shape} for {rows} rows{where}")
        wrong = ~(np.isfinite(numbers) | np.isneginf(numbers)) if numbers.dtype.kind == "f" else np.zeros(1, bool)
        _need(not wrong.any(), f"'{name}' holds {int(wrong.sum())} numbers that are NaN or +infinite{where}")


def _rows_of(said: Signals, rows: Array) -> Signals:
    return Signals({name: np.asarray(value)[rows] for name, value in said.items()}, said.kinds)


def _same(found: Signals, wanted: Signals, words: str, *, tolerance: float = TOLERANCE) -> None:
    _need(set(found) == set(wanted), f"{words}: the signals are {sorted(found)}, not {sorted(wanted)}")
    for name in wanted:
        a, b = np.asarray(found[name]), np.asarray(wanted[name])
        near = a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance)
        _need(near, f"{words} ('{name}')")


def _same_column(found: Any, kept: Any) -> bool:
    if isinstance(kept, Lists):
        return _same_column(found.values, kept.values) and np.array_equal(found.offsets, kept.offsets)
    return found == kept if isinstance(kept, list) else np.array_equal(found, kept, equal_nan=kept.dtype.kind == "f")
