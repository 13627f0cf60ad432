"""What every chart is made of: scales, marks, axes and the frame around them, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from limbeck.page.element import Html, element, join, text
from limbeck.page.number import Unit, number
from limbeck.page.word import Text, english
from limbeck.report import Role

WIDTH = 400
LETTER = 7.4
"""Advance of a usual letter at the size that narrow screens use; wide ones have room to spare."""
IDEOGRAPH = 13.0
CJK = 0x2E80


@dataclass(frozen=True)
class Scale:
    """Values to pixels.

    Args:
        low, high: values at the ends, low < high.
        start, end: pixels of these ends.
        log: logarithmic; both ends are then above 0.
        whole: ticks are whole numbers, such as epochs.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    @staticmethod
    def around(values: Sequence[float], start: float, end: float, *, log: bool = False, room: float = 0.08) -> Scale:
        """The scale that holds all values with some room on both sides."""
        low, high = min(values), max(values)
        if log:
            spread = max(math.log10(high / low), 0.3) * room
            return Scale(low / 10**spread, high * 10**spread, start, end, log=True)
        # A range too narrow for the floats around it would have no ticks.
        spread = (high - low) * room if high - low > 1e-9 * max(abs(low), abs(high)) else abs(high) * room or 1.0
        return Scale(low - spread, high + spread, start, end)

    def __call__(self, value: float) -> float:
        """The pixel of a value.

        >>> Scale(0, 10, 100, 200)(5)
        150.0
        """
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the ends, about as many as asked for.

        >>> Scale(0, 1, 0, 100).ticks()
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        """
        if self.log:
            return self._decades()
        raw = max((self.high - self.low) / count, 1.0 if self.whole else 0.0)
        unit = 10.0 ** math.floor(math.log10(raw))
        step = unit * min((m for m in (1, 2, 5, 10) if m * unit >= raw), default=10)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _decades(self) -> list[float]:
        span = math.log10(self.high / self.low)
        factors = (1, 2, 5) if span < 1.3 else (1, 3) if span < 3 else (1,)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = max(1, round(span / 5))
        values = [f * 10.0**p for p in powers if p % every == 0 for f in factors]
        return [v for v in values if self.low <= v <= self.high]


def symbol(role: Role, x: float, y: float, *, size: float = 5.0, title: str = "") -> Html:
    """The mark of a role: teacher a diamond, student a disc, scratch a ring, trivial a cross."""
    said = element("title", title) if title else None
    if role == "teacher":
        reach = size * 1.3
        path = f"M{x:.1f},{y - reach:.1f}l{reach:.1f},{reach:.1f}l{-reach:.1f},{reach:.1f}l{-reach:.1f},{-reach:.1f}z"
        return element("path", said, d=path, class_="mark teacher")
    if role == "trivial":
        arm = size * 0.85
        left, top, side = x - arm, y - arm, 2 * arm
        path = f"M{left:.1f},{top:.1f}l{side:.1f},{side:.1f}m{-side:.1f},0l{side:.1f},{-side:.1f}"
        return element("path", said, d=path, class_="mark trivial")
    return element("circle", said, cx=x, cy=y, r=size, class_=f"mark {role}")


def mark(role: Role) -> Html:
    """The mark of a role as a small picture beside its word."""
    return element("svg", symbol(role, 7, 7, size=4.2), viewBox="0 0 14 14", class_="icon", aria_hidden="true")


def figure(title: Text, description: str, height: float, *parts: Html) -> Html:
    """A chart with its heading.

    Args:
        title: heading, said above and as the picture's name.
        description: the picture's content in words, for those who do not see it.
        height: in units of the picture, which is `WIDTH` wide.
        parts: markup inside it.
    """
    name = element("title", english(title))
    picture = element(
        "svg",
        name,
        element("desc", description),
        *parts,
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        role="img",
        class_="chart",
    )
    return element("figure", element("figcaption", title), picture)


def bottom_axis(scale: Scale, y: float, top: float, unit: Unit = "plain", label: Text = "") -> Html:
    """Ticks and their values under a chart, with thin lines up to `top`."""
    parts = []
    for tick, said in zip(scale.ticks(), tick_labels(scale, unit), strict=True):
        x = scale(tick)
        parts.append(element("line", x1=x, x2=x, y1=y, y2=top, class_="grid"))
        parts.append(text("text", said, x=x, y=y + 16, text_anchor="middle", class_="tick"))
    if label:
        middle = (scale.start + scale.end) / 2
        parts.append(text("text", label, x=middle, y=y + 34, text_anchor="middle", class_="axis"))
    return join(parts)


def left_axis(scale: Scale, x: float, right: float, unit: Unit = "plain") -> Html:
    """Ticks and their values left of a chart, with thin lines to `right`."""
    parts = []
    for tick, said in zip(scale.ticks(), tick_labels(scale, unit), strict=True):
        y = scale(tick)
        parts.append(element("line", x1=x, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(text("text", said, x=x - 8, y=y + 4, text_anchor="end", class_="tick"))
    return join(parts)


def tick_labels(scale: Scale, unit: Unit = "plain") -> list[str]:
    """What the ticks say: as many digits as tell neighbours apart, and the same number of decimals."""
    ticks = scale.ticks()
    if scale.log or unit != "plain":
        return [number(tick, unit, digits=1) for tick in ticks]
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:,.{places}f}".replace("-", "−") for tick in ticks]


def width_of(said: str) -> float:
    """About how wide a text is, in the picture's units."""
    return sum(IDEOGRAPH if ord(letter) >= CJK else LETTER for letter in said)


def shortened(said: str, room: float) -> str:
    """The text, or as much of it as fits with an ellipsis.

    >>> shortened("matrix", 100), shortened("matrix", 25)
    ('matrix', 'ma…')
    """
    if width_of(said) <= room:
        return said
    kept = said
    while kept and width_of(kept) + LETTER > room:
        kept = kept[:-1]
    return f"{kept}…"


def end_labels(
    places: Sequence[tuple[float, Text, str]], x: float, low: float, high: float, *, gap: float = 15
) -> Html:
    """Labels at the ends of lines, pushed apart where they would cover each other.

    Args:
        places: (wished y, text, class).
        x: of their left ends.
        low: least y they may have, in pixels.
        high: greatest y.
        gap: pixels between two baselines.
    """
    ordered = sorted(places, key=lambda place: place[0])
    heights: list[float] = []
    for wished, _, _ in ordered:
        heights.append(max(wished, heights[-1] + gap) if heights else max(wished, low))
    for i in range(len(heights) - 1, -1, -1):
        ceiling = high if i == len(heights) - 1 else heights[i + 1] - gap
        heights[i] = min(heights[i], ceiling)
    return join([text("text", t, x=x, y=y + 4, class_=c) for y, (_, t, c) in zip(heights, ordered, strict=True)])
