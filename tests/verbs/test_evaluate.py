from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from limbeck import parts
from limbeck.errors import UserError
from limbeck.task import Problem, Source, Task
from limbeck.types import Batch, Rows, Signals
from limbeck.verbs.evaluate import evaluate, open_predictor
from limbeck.verbs.label import label

TASK: Task = parts.get("tasks", "classify_text")


class Loud:
    """Says `up` of every text with an exclamation mark."""

    reads = ("text",)
    fingerprint = "loud"

    def __call__(self, batch: Batch) -> Signals:
        loud = np.array(["!" in text for text in batch["text"]], float)
        return Signals({"logits": np.stack([-loud, loud], 1)}, {"logits": "logits"})


def problem() -> Problem:
    up = [i % 3 == 0 for i in range(30)]
    texts = [f"thing {i}{'!' if good else ''}" for i, good in enumerate(up)]
    columns = {"text": pa.array(texts), "label": pa.array(["up" if good else "down" for good in up])}
    rows = Rows(pa.table(columns), np.arange(30), "made", {"text": "text", "label": "label"})
    return TASK.prepare(Source(rows), np.arange(30) // 10, {**TASK.options})


def test_a_predictor_that_is_always_right_is_judged_so() -> None:
    made = problem()
    judged = evaluate(Loud(), made.test, TASK, made)
    assert judged.metrics["accuracy"] == 1.0
    assert judged.metrics["auc"] == 1.0


def test_a_store_is_judged_as_the_teacher_that_filled_it(tmp_path: Path) -> None:
    made = problem()
    store = label(Loud(), made.test, tmp_path)
    opened = open_predictor(store.folder, made)
    assert dict(evaluate(opened, made.test, TASK, made).metrics) == dict(
        evaluate(Loud(), made.test, TASK, made).metrics
    )


def test_rows_without_what_it_reads_are_refused() -> None:
    made = problem()
    with pytest.raises(UserError, match=r"reads 'text'.*there are: label"):
        evaluate(Loud(), made.test.select(["label"]), TASK, made)
    with pytest.raises(UserError, match="no rows"):
        evaluate(Loud(), made.test.slice(0, 0), TASK, made)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no artifact, model or store"):
        open_predictor(tmp_path, problem())
