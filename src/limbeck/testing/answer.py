"""Answers held against one another, and against what signals may be."""

from __future__ import annotations

from typing import Any

import numpy as np

from limbeck.types import KINDS, Array, Lists, Signals, stem_of

TOLERANCE = 1e-5
"""How far two answers to one row may be apart: absolute, and relative to them."""


def need(kept: bool, words: str) -> None:
    """An assertion that `python -O` does not drop."""
    if not kept:
        raise AssertionError(words)


def close(found: float, wanted: float, tolerance: float) -> bool:
    """Two figures, NaN being NaN."""
    return bool(np.isclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True))


def check_signals(said: Signals, rows: int, where: str = "") -> None:
    """Known kinds, an entry a row, and numbers that are finite or, as a mask, -inf."""
    need(len(said) > 0, f"it says nothing{where}")
    for name, value in said.items():
        kind, numbers = said.kinds[stem_of(name)[0]], np.asarray(value)
        need(kind in KINDS, f"'{name}' is of the unknown kind '{kind}'{where}")
        need(numbers.ndim > 0 and len(numbers) == rows, f"'{name}' has shape {numbers.shape} for {rows} rows{where}")
        wrong = ~(np.isfinite(numbers) | np.isneginf(numbers)) if numbers.dtype.kind == "f" else np.zeros(1, bool)
        need(not wrong.any(), f"'{name}' holds {int(wrong.sum())} numbers that are NaN or +infinite{where}")


def rows_of(said: Signals, rows: Array) -> Signals:
    """What was said of some of the rows."""
    return Signals({name: np.asarray(value)[rows] for name, value in said.items()}, said.kinds)


def same(found: Signals, wanted: Signals, words: str, *, tolerance: float = TOLERANCE) -> None:
    """Two answers to the same rows agree; else `words` say what that means."""
    need(set(found) == set(wanted), f"{words}: the signals are {sorted(found)}, not {sorted(wanted)}")
    for name in wanted:
        a, b = np.asarray(found[name]), np.asarray(wanted[name])
        near = a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance)
        need(near, f"{words} ('{name}')")


def same_column(found: Any, kept: Any) -> bool:
    """Two raw columns are equal."""
    if isinstance(kept, Lists):
        return same_column(found.values, kept.values) and np.array_equal(found.offsets, kept.offsets)
    return found == kept if isinstance(kept, list) else np.array_equal(found, kept, equal_nan=kept.dtype.kind == "f")
