"""Judge anything that answers: a model, an artifact, a store, by the same function."""

from __future__ import annotations

from pathlib import Path

from limbeck.errors import UserError
from limbeck.progress import Heard, Teller
from limbeck.task import Judgement, Problem, Task
from limbeck.types import Predictor, Rows


def evaluate(predictor: Predictor, rows: Rows, task: Task, problem: Problem, teller: Teller | None = None) -> Judgement:
    """Judge a predictor on rows.

    Args:
        predictor: anything from batches to signals.
        rows: with targets; those of the problem's test part make the last table.
        task: knows how.
        problem: the axis that the predictor's answers count along, and what the training rows hold.
        teller: where progress goes.

    Returns:
        Every metric of the task, overall and by slice.

    Raises:
        UserError: there are no rows, they lack a column it reads, or it answers along another axis.
    """
    if not len(rows):
        raise UserError("there are no rows to judge on")
    lacking = [name for name in predictor.reads if name not in rows.names]
    if lacking:
        said = ", ".join(map(repr, lacking))
        raise UserError(f"the predictor reads {said}, which these rows lack; there are: {', '.join(rows.names)}")
    with (teller or Teller()).bar("judging", len(rows)) as advance:
        return task.judge(Heard(predictor, advance), rows, problem)


def open_predictor(folder: Path, problem: Problem, source: str = "") -> Predictor:
    """What lies in a folder: an artifact, a saved model, or a store.

    Args:
        folder: where it lies.
        problem: whose rows it will be judged on.
        source: fingerprint of the source these rows were split from; an artifact taught on other rows of the same
            source may have learnt from those of this test.

    Raises:
        UserError: none of these, one that answers along another axis than the problem's, or one that may have learnt
            from its test rows.
    """
    if (folder / "contract.json").is_file():
        from limbeck.artifact import Artifact

        opened = Artifact.open(folder)
        if (opened.axis.name, opened.axis.values) != (problem.axis.name, problem.axis.values):
            raise _other(folder, len(opened.axis), problem)
        origin = opened.origin
        if source and origin.get("rows") == source and origin.get("train") != problem.train.fingerprint:
            own = origin.get("split", "of another recipe")
            raise UserError(
                f"{folder} was taught on another division of these rows ({own}), so "
                "rows it learnt from may be among those it would be judged on; name the recipe, protocol and split it "
                "was taught on, or rows of another file"
            )
        return opened.predictor()
    if (folder / "model.json").is_file():
        from limbeck.model import Model

        model = Model.load(folder)
        if model.outputs != len(problem.axis):
            raise _other(folder, model.outputs, problem)
        return model
    if (folder / "store.json").is_file():
        from limbeck.store import Store

        return Store.open(folder)
    raise UserError(f"{folder} is no artifact, model or store; name a folder such as runs/<recipe>/artifact/<student>")


def _other(folder: Path, count: int, problem: Problem) -> UserError:
    name, wanted = problem.axis.name, len(problem.axis)
    return UserError(
        f"{folder} answers on {count} {name}s, these rows have {wanted} in training, and they are not the same in the "
        "same order; name the protocol and split it was taught on"
    )
