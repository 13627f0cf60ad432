"""The report as data: what is written is what is read, and what is wrong is said."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.report import Latency, Metric, Protocol, Report, Row, load_rows, save_rows

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
PLAIN = {float: finite, int: st.integers(0, 2**53), str: st.text(max_size=8), bool: st.booleans(), Any: json_values}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is type(None):
        return st.none()
    if is_dataclass(hint):
        fields = {name: values_of(inner) for name, inner in get_type_hints(hint).items() if name != "schema"}
        return st.builds(hint, **fields)
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return st.sampled_from(inner)
    if get_origin(hint) is tuple:
        return st.lists(values_of(inner[0]), max_size=2).map(tuple)
    if get_origin(hint) is Mapping:
        return st.dictionaries(st.text(max_size=8), values_of(inner[1]), max_size=2)
    return st.one_of(*map(values_of, inner))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(report=values_of(Report))
def test_any_report_is_read_as_it_was_written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("report")
    file = report.save(folder)
    assert Report.load(file) == Report.load(folder) == report


def small(**changes: object) -> Report:
    row = Row(role="student", name="mf-16", metrics={"ndcg@10": Metric(0.3185, 0.002)}, latency_ms=Latency(1, 0.2, 0.3))
    protocol = Protocol(name="random", headline="ndcg@10", rows=(row,))
    return Report(**{"task": "recommend", "protocols": (protocol,), "verdict": "It helped.", **changes})


def test_the_file_has_the_documented_shape(tmp_path: Path) -> None:
    said = json.loads(small().save(tmp_path).read_text(encoding="utf-8"))
    own = {"schema", "task", "data", "threads", "protocols", "artifacts", "verdict", "seconds", "robustness"}
    assert own == set(said)
    assert said["schema"] == 1
    protocol = said["protocols"][0]
    assert {"name", "n", "headline", "higher_is_better", "splits", "seeds", "rows", "comparisons"} <= set(protocol)
    assert protocol["rows"][0]["metrics"] == {"ndcg@10": {"mean": 0.3185, "sd": 0.002, "low": None, "high": None}}
    assert protocol["rows"][0]["latency_ms"] == {"batch": 1, "p50": 0.2, "p95": 0.3}


def test_nan_is_written_as_null_and_read_as_none(tmp_path: Path) -> None:
    report = small(data={"share": math.nan}, seconds={"teacher": math.inf})
    text = report.save(tmp_path).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    back = Report.load(tmp_path)
    assert back.data == {"share": None}
    assert back.seconds == {"teacher": None}


def test_numpy_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    report = small(
        data={"items": np.int64(1682), "share": np.float32(0.5), "some": np.arange(2), "cold": np.bool_(True)}
    )
    report.save(tmp_path)
    assert Report.load(tmp_path).data == {"items": 1682, "share": 0.5, "some": [0, 1], "cold": True}


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    said = asdict(small()) | {"weather": "fair"}
    said["protocols"][0]["rows"][0]["colour"] = "copper"
    (tmp_path / "report.json").write_text(json.dumps(said), encoding="utf-8")
    assert Report.load(tmp_path) == small()


def test_a_report_without_the_additions_is_read(tmp_path: Path) -> None:
    said = {
        "schema": 1,
        "task": "ctr",
        "protocols": [{"name": "time", "headline": "auc", "rows": [{"role": "trivial", "name": "majority"}]}],
    }
    (tmp_path / "report.json").write_text(json.dumps(said), encoding="utf-8")
    report = Report.load(tmp_path)
    assert report.protocols[0].rows == (Row(role="trivial", name="majority"),)
    assert report.protocols[0].curves == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "schema is 'list'"),
        ('{"schema": 2, "task": "x"}', "schema is 2"),
        ('{"schema": 1}', "task: "),
        ('{"schema": 1, "task": "x", "protocols": [{"name": "p"}]}', "protocols.0.headline"),
        ('{"schema": 1, "task": "x", "artifacts": [{"student": "s", "path": "p", "precision": "fp64"}]}', "precision"),
    ],
)
def test_a_broken_report_says_where(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        Report.load(tmp_path)


def test_a_missing_report_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="limbeck run"):
        Report.load(tmp_path / "report.json")


def test_a_save_that_fails_leaves_the_old_report(tmp_path: Path) -> None:
    small().save(tmp_path)
    with pytest.raises(TypeError):
        small(data={"x": object()}).save(tmp_path)
    assert Report.load(tmp_path) == small()


def test_rows_are_read_as_written_and_absent_rows_are_none(tmp_path: Path) -> None:
    rows = [{"id": 3, "protocol": "time", "row": {"text": "</script>", "نص": "مرحبا"}, "disagreement": math.nan}]
    assert load_rows(tmp_path) == []
    save_rows(rows, tmp_path)
    assert load_rows(tmp_path) == [{**rows[0], "disagreement": None}]


def test_rows_that_are_no_list_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"id": 1}', encoding="utf-8")
    with pytest.raises(UserError, match="list of rows"):
        load_rows(tmp_path)
