"""How long an exported student takes, on a machine that has other work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from limbeck import leave
from limbeck.measure import Speed

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
