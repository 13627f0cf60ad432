"""One bar: what was measured beside what was wanted."""

from __future__ import annotations

from collections.abc import Sequence

Bar = tuple[str, float, str, float]
"""What, measured, how it is held (`>=`, `<=` or `<`), and the bar."""


def held(bar: Bar) -> bool:
    """Whether it is; NaN holds no bar."""
    _, found, way, wanted = bar
    return {">=": found >= wanted, "<=": found <= wanted, "<": found < wanted}[way]


def show(bars: Sequence[Bar]) -> int:
    """Print one line each; the exit code, 1 where one is missed."""
    for bar in bars:
        what, found, way, wanted = bar
        print(f"{'held  ' if held(bar) else 'MISSED'} {what:45} {found:10.4f} {way} {wanted}")
    return 0 if all(map(held, bars)) else 1
