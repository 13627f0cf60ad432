"""How long an exported student takes, on a machine that has other work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limbeck import leave
from limbeck.artifact import Export
from limbeck.measure import Speed
from limbeck.progress import Teller
from limbeck.task import Problem
from limbeck.types import Axis, Rows
from limbeck.verbs.export import About

CALM = Speed(p50_ms=0.4, p95_ms=0.7, rows_per_second=1e4, encode_ms=None, encode_share=None, calls=64)
DISTURBED = replace(CALM, p95_ms=4.5)


@pytest.mark.parametrize(
    ("measured", "bound", "p95", "times"),
    [
        ([DISTURBED, DISTURBED, CALM, DISTURBED], 1.0, 0.7, 3),
        ([CALM, DISTURBED], 1.0, 0.7, 1),
        ([DISTURBED, CALM], float("inf"), 4.5, 1),
        ([DISTURBED, CALM], 0.3, 4.5, 1),
        ([DISTURBED] * 99, 1.0, 4.5, leave.CALMEST_OF),
    ],
    ids=["until calm", "calm at once", "no bound", "the median passes it already", "never calm"],
)
def test_a_tail_that_seems_to_pass_its_bound_is_timed_until_it_is_calm(
    measured: list[Speed], bound: float, p95: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def speed_of(predictor: Any, rows: Any, seconds: float = 1.0) -> Speed:
        asked.append(seconds)
        return measured[len(asked) - 1]

    monkeypatch.setattr(leave, "speed_of", speed_of)
    assert leave._speed(None, None, bound).p95_ms == p95  # type: ignore[arg-type]  # neither is looked at
    assert len(asked) == times
    # Half of that time or so goes to single rows: each of the 64 is asked in every measuring.
    assert all(seconds * 0.4 >= leave.ROWS_TIMED * CALM.p50_ms / 1e3 - 1e-9 for seconds in asked)


def test_a_file_is_calibrated_on_rows_of_every_label_even_where_rows_are_sorted_by_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    label = np.arange(900) // 300
    held = Rows(pa.table({"x": label}), np.arange(900), "sorted", {})
    problem = Problem(held, held, held, Axis("label", ("0", "1", "2")), ("x",))
    proofs: list[Any] = []

    def export(model: Any, folder: Path, *, proof: Any, about: Any, settings: Any) -> Any:
        proofs.append(proof)
        return SimpleNamespace(parity={})

    monkeypatch.setattr(leave, "export", export)
    desk: Any = SimpleNamespace(
        task=SimpleNamespace(headline="", higher_is_better=True), teller=Teller(), encode=lambda *_: {"x": label}
    )
    lived: Any = SimpleNamespace(model=SimpleNamespace(encoder=None, reads=("x",)), validation=1.0)
    about: Any = About("t", problem.axis, (), None, recipe="")  # type: ignore[arg-type]  # the card is not looked at
    for _ in range(2):
        leave._export(desk, lived, problem, about, Export(), Path("student"))
    first, again = (proof.calibration["x"] for proof in proofs)
    assert len(first) == leave.CALIBRATED
    assert np.bincount(first, minlength=3).min() > 60
    np.testing.assert_array_equal(first, again)
