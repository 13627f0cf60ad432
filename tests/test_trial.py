"""Before a run: what is opened, and what is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from limbeck import parts
from limbeck.errors import UserError
from limbeck.knowledge import Knowledge
from limbeck.recipe import Teacher
from limbeck.task import Problem
from limbeck.teachers.ensemble import Ensemble
from limbeck.teachers.http import Http
from limbeck.trial import MadeUp, _open
from limbeck.types import Axis, Rows

ROWS = Rows(pa.table({"text": ["a", "b"]}), np.arange(2), "shop", {"text": "text"})
PROBLEM = Problem(ROWS, ROWS, ROWS, Axis("label", ("x", "y")), ("text",))
OPENED: list[str] = []


@dataclass(frozen=True)
class Answering:
    """A teacher that says it was opened."""

    asks_a_service: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def open(self, problem: Problem, base: Path) -> Any:
        OPENED.append(type(self).__name__)
        return self

    def __call__(self, batch: Any) -> None: ...


class Paid(Answering):
    """The same, for money."""

    asks_a_service: ClassVar[bool] = True


def test_a_service_says_so_itself_and_is_not_asked_before_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Http.asks_a_service
    known = {"near": Answering(), "paid": Paid(), "ensemble": Ensemble(({},))}
    monkeypatch.setattr(parts, "make", lambda folder, name, settings: known[name])
    OPENED.clear()
    members = [{"from": "near"}, {"from": "paid"}]
    built: list[Teacher] = []
    for told in ({"from": "paid"}, {"from": "near"}, {"from": "ensemble", "members": members}):
        _open(Teacher.model_validate(told), PROBLEM, tmp_path, built.append)
    assert OPENED == ["Answering", "Answering"]
    assert not built


def test_a_teacher_is_built_unless_its_weights_are_still_to_be_fetched(tmp_path: Path) -> None:
    built: list[Teacher] = []
    members = [{"model": "tfidf_linear"}, {"model": "transformer", "source": "pack:minilm"}]
    _open(Teacher.model_validate({"from": "ensemble", "members": members}), PROBLEM, tmp_path, built.append)
    assert [one.model for one in built] == ["tfidf_linear"]


def test_an_ensemble_that_keeps_its_members_apart_is_made_up_with_what_each_says() -> None:
    known = MadeUp(parts.get("tasks", "classify_text"), 2, Knowledge(), members=2)
    said = known.gather(np.arange(3))
    assert sorted(said) == ["logits", "logits.0", "logits.1", "share"]
    assert {said[name].shape for name in said} == {(3, 2)}
    assert said["share"].sum(1).tolist() == [1.0] * 3


def test_a_column_that_routes_nobody_is_found_before_any_training(tmp_path: Path) -> None:
    said = {"from": "ensemble", "members": [{"model": "tfidf_linear"}], "route": "tongue", "to": {"en": 0}}
    with pytest.raises(UserError, match="route is 'tongue'; the rows have"):
        _open(Teacher.model_validate(said), PROBLEM, tmp_path, lambda _: None)
