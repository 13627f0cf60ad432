"""The contract of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.task import Judgement, Problem, Source, Task
from limbeck.testing.answer import close, need
from limbeck.types import Array, Batch, Rows, Signals


def check_task(
    task: Task,
    source: Source,
    *,
    options: Mapping[str, Any] | None = None,
    oracle: Callable[[Rows, Problem], Array] | None = None,
    part: Array | None = None,
) -> None:
    """Hold a task to what honest reports rely on.

    Preparing twice gives the same problem; no row is in two parts; what tells rows apart is one text a row, whichever
    rows are asked about; a task that takes unlabelled rows can tell rows apart; targets have one entry a row; the
    judgement's metrics are those of its columns, and permuting the rows leaves them; an oracle beats a random
    predictor in the headline; people get one answer a row.

    Args:
        task: with the options it is prepared with by default.
        source: rows with the task's roles, enough that each of three parts holds some.
        options: of `prepare`, where the defaults will not do.
        oracle: (rows, problem) -> the main signal (N, C) of one who knows the targets; by default made of the
            first of `task.targets`: a class or positions a row, or the values themselves.
        part: of every row, where not every division will do, as of a forecast's; by default drawn.

    Raises:
        AssertionError: a promise is broken; says which.
    """
    part = np.random.default_rng(0).choice(3, len(source.rows), p=(0.6, 0.2, 0.2)) if part is None else part
    settings = {**task.options, **(options or {})}
    problem = task.prepare(source, part, settings)
    again = task.prepare(source, part, settings)
    need(problem.fingerprint == again.fingerprint, "preparing the same rows twice gives two problems")
    seen: dict[tuple[str, int, int], str] = {}
    for name in ("train", "validation", "test"):
        key = getattr(problem, name).key
        need(len(key) > 0, f"no row is left for {name}; give a larger source")
        for row in zip([key.source] * len(key), key.id.tolist(), key.view.tolist(), strict=True):
            need(seen.setdefault(row, name) == name, f"row {row[1]} is in {seen[row]} and in {name}")
    _check_same(task, problem, settings)
    for name, values in task.targets(problem.test, problem).items():
        need(
            len(values) == len(problem.test), f"target '{name}' has {len(values)} entries for {len(problem.test)} rows"
        )
    knowing = _Says(task, problem, oracle or _oracle(task), problem.reads)
    guessing = _Says(task, problem, _noise, problem.reads)
    judged = [task.judge(predictor, problem.test, problem) for predictor in (knowing, guessing)]
    for one in judged:
        _check_judgement(task, one, len(problem.test))
    best, chance = (one.metrics[task.headline] for one in judged)
    won = best > chance if task.higher_is_better else best < chance
    need(won, f"{task.headline} is {best:.4g} of an oracle and {chance:.4g} of a random predictor")
    order = np.random.default_rng(1).permutation(len(problem.test))
    apart = task.apart(*judged)
    need(apart.shape == (len(problem.test),) and apart.min() >= 0 and apart.max() <= 1, "apart is not (N,) in [0, 1]")
    need(not task.apart(judged[0], judged[0]).any(), "a predictor is apart from itself")
    shown = [task.show(problem, one, 0) for one in judged]
    need(all({"truth", "answer"} <= set(one) for one in shown), "show names no 'truth' or no 'answer'")
    need(shown[0]["truth"] == shown[1]["truth"], "what row 0 wanted depends on who is asked")
    shuffled = task.judge(guessing, problem.test.take(order), problem)
    for name, value in judged[1].metrics.items():
        need(close(shuffled.metrics[name], value, 1e-6), f"permuting the rows changes {name}")
    batch = problem.test.slice(0, 3).batch()
    answers = task.answer(knowing(batch), problem.axis, batch, 2)
    need(len(answers) == len(batch.key), f"{len(batch.key)} rows got {len(answers)} answers")


def _check_same(task: Task, problem: Problem, options: Mapping[str, Any]) -> None:
    if task.same is None:
        need(not task.takes_unlabelled, "it takes unlabelled rows, but has no `same` to keep them apart from test rows")
        return
    rows = problem.test
    said = task.same(rows, options).to_pylist()
    need(len(said) == len(rows), f"`same` has {len(said)} entries for {len(rows)} rows")
    need(all(isinstance(one, str) for one in said), "`same` says of a row that is judged that it cannot be read")
    turned = task.same(rows.take(np.arange(len(rows))[::-1]), options).to_pylist()
    need(turned == said[::-1], "what `same` says of a row depends on the rows beside it")


def _check_judgement(task: Task, judged: Judgement, rows: int) -> None:
    need(set(judged.metrics) == set(task.metrics), f"judged {sorted(judged.metrics)}, promised {sorted(task.metrics)}")
    for name, metric in task.metrics.items():
        found, said = metric(judged.columns), judged.metrics[name]
        need(close(found, said, 1e-9), f"{name} is {said} in the judgement and {found} of its columns")
    for name, values in {"unit": judged.unit, "top": judged.top, **judged.columns}.items():
        need(len(values) == rows, f"the judgement's '{name}' has {len(values)} entries for {rows} rows")


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
        if task.signal[1] == "values":
            return np.asarray(target)
        whole = np.issubdtype(target.dtype, np.integer) and target.ndim <= 2
        need(whole, "the first target is no class or position; give an `oracle`")
        positions = target.reshape(len(rows), -1)
        answer = np.zeros((len(rows), len(problem.axis) + 1), np.float32)
        np.put_along_axis(answer, np.where(positions < 0, len(problem.axis), positions), 10.0, 1)
        return answer[:, :-1]

    return tell
