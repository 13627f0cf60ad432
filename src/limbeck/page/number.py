"""How every number of a report is written."""

from __future__ import annotations

import math
from typing import Literal

Unit = Literal["plain", "difference", "count", "bytes", "ms", "seconds", "percent", "ratio", "p"]
MISSING = "–"  # an en dash
SUFFIXES: dict[str, tuple[str, ...]] = {
    "count": ("", "k", "M", "B", "T"),
    "bytes": (" B", " KB", " MB", " GB", " TB"),
    "ms": (" µs", " ms", " s"),
}


def measured(value: float | None) -> float | None:
    """The value, or none where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def number(value: float | None, unit: Unit = "plain", *, digits: int | None = None) -> str:
    """A number as people read it; an en dash where there is none.

    Args:
        value: in the unit's base: parameters or rows for `count`, bytes (thousands, not 1024s), ms,
            seconds, a fraction for `percent`, a quotient for `ratio`.
        unit: `difference` always shows its sign, `p` never goes below 0.0001.
        digits: significant ones; by default 4, or 3 for a difference and before a suffix. Whole
            numbers keep all of theirs.

    >>> number(0.3185), number(-0.0123, "difference"), number(1234567, "count"), number(0.0123, "ms")
    ('0.3185', '−0.0123', '1.23M', '12.3 µs')
    >>> number(0.925, "percent"), number(2_500_000, "bytes"), number(12.34, "ratio"), number(None)
    ('92.5%', '2.50 MB', '12.3×', '–')
    """
    value = measured(value)
    if value is None:
        return MISSING
    sign = "−" if value < 0 else "+" if unit == "difference" and value > 0 else ""
    return sign + _unsigned(abs(value), unit, digits)


def _unsigned(size: float, unit: Unit, digits: int | None) -> str:
    if unit == "percent":
        return f"{size * 100:.1f}%"
    if unit == "ratio":
        return f"{_digits(size, digits or 3)}×"
    if unit == "p":
        return "< 0.0001" if size < 1e-4 else _digits(size, digits or 2)
    if unit == "seconds":
        return _seconds(size, digits or 3)
    if unit in SUFFIXES:
        # A whole count below ten thousand is shorter written out than rounded.
        if unit == "count" and size < 10_000 and float(size).is_integer():
            return f"{int(size):,}"
        if unit == "ms" and size < 1:
            size, suffixes = size * 1000, SUFFIXES["ms"]
        else:
            suffixes = SUFFIXES[unit][unit == "ms" :]
        return _suffixed(size, suffixes, digits or 3)
    if isinstance(size, int):
        return f"{size:,}"
    return _digits(size, digits or (3 if unit == "difference" else 4))


def _suffixed(size: float, suffixes: tuple[str, ...], digits: int) -> str:
    step = 0
    while float(f"{size:.{digits}g}") >= 1000 and step < len(suffixes) - 1:
        size, step = size / 1000, step + 1
    text = f"{size:.0f}" if suffixes[step] == " B" else _digits(size, digits)
    return text + suffixes[step]


def _seconds(size: float, digits: int) -> str:
    if size < 1:
        return _suffixed(size * 1e6, SUFFIXES["ms"], digits)
    if size < 59.95:
        return f"{_digits(size, digits)} s"
    minutes, seconds = divmod(round(size), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(round(size / 60), 60)
    return f"{hours:,} h {minutes} min"


def _digits(size: float, digits: int) -> str:
    if size == 0:
        return "0"
    if size < 1e-4 or size >= 1e9:
        mantissa, exponent = f"{size:.{min(digits, 3) - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    # Rounded first: 0.99996 then has a digit more.
    places = max(0, digits - 1 - math.floor(math.log10(float(f"{size:.{digits}g}"))))
    # Four decimals are enough for what is not tiny, and keep a column of metrics in line.
    return f"{size:,.{min(places, 4) if size >= 0.01 else places}f}"
