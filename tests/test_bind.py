"""From a recipe's words to rows: who is left out, and what counts as the same text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from limbeck import ledger
from limbeck.bind import _apart, remembered, together
from limbeck.cache import cache_folder
from limbeck.chunk import persons
from limbeck.errors import UserError
from limbeck.task import Problem
from limbeck.types import Axis, Rows


def rows_of(texts: list[str], source: str = "shop") -> Rows:
    table = pa.table({"text": texts, "label": ["a"] * len(texts)})
    return Rows(table, np.arange(len(texts)), source, {"text": "text", "label": "label"})


@pytest.fixture
def purchases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    table = pa.table({"who": ["u1", "u2", "u1", "u3"], "what": ["a", "b", "c", "d"]})
    return Rows(table, np.arange(4), "shop", {"user": "who", "item": "what"})


def test_a_person_who_asked_to_be_forgotten_is_in_no_rows_of_any_later_run(purchases: Rows) -> None:
    assert remembered(purchases).id.tolist() == [0, 1, 2, 3]
    ledger.write_forgotten(cache_folder("stores"), persons(["u1"]))
    left = remembered(purchases)
    assert left.column("who") == ["u2", "u3"]
    assert left.id.tolist() == [1, 3]
    assert left.fingerprint != purchases.fingerprint


def test_rows_of_forgotten_people_only_are_refused(purchases: Rows) -> None:
    ledger.write_forgotten(cache_folder("stores"), np.sort(persons(["u1", "u2", "u3"])))
    with pytest.raises(UserError, match="asked to be forgotten"):
        remembered(purchases)


def test_equal_rows_under_other_roles_are_other_rows(purchases: Rows) -> None:
    other = Rows(purchases.table, purchases.id, purchases.source, {"user": "what", "item": "who"})
    assert other.fingerprint != purchases.fingerprint


def test_unlabelled_texts_that_are_test_texts_to_the_eye_are_left_out() -> None:
    held = rows_of(["caf\u00e9 au lait", "two  spaces here"])
    problem = Problem(rows_of(["train"]), rows_of(["check"]), held, Axis("label", ("a", "b")), ("text",))
    asked = rows_of(["cafe\u0301 au  lait ", "two spaces\there", "check", "fresh one", "fresh  one", "train"], "web")
    assert _apart(asked, problem).column("text") == ["fresh one", "train"]


def test_sources_put_together_number_their_rows_anew() -> None:
    both = together([rows_of(["a", "b"]), rows_of(["c"], "web")])
    assert both.id.tolist() == [0, 1, 2]
    assert both.column("text") == ["a", "b", "c"]
    assert both.source not in ("shop", "web")
