"""The charts a report is told with: lines, a scatter, intervals and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.page.chart import (
    WIDTH,
    Scale,
    bottom_axis,
    end_labels,
    figure,
    left_axis,
    shortened,
    symbol,
    width_of,
)
from limbeck.page.element import Html, element, join, text
from limbeck.page.number import Unit, measured, number
from limbeck.page.word import Text, Word, english
from limbeck.report import Number, Reliability, Role


@dataclass(frozen=True)
class Series:
    """One line.

    Args:
        label: said at its end; empty where a sister line says it.
        style: class of the line: a role, or `term0`, `term1`, ...
        points: (x, y); unmeasured y break nothing, they are left out.
        best: the x that is marked with a dot.
    """

    label: Text
    style: str
    points: tuple[tuple[float, Number], ...]
    best: Number = None

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points that were measured."""
        return [(x, y) for x, value in self.points if (y := measured(value)) is not None]


@dataclass(frozen=True)
class Axes:
    """What a line chart's axes count.

    Args:
        label: under the x axis.
        whole: whether only whole numbers are marked on it.
        heights: the ends of the y axis; by default those of what is drawn.
    """

    label: Text
    whole: bool = True
    heights: tuple[float, float] | None = None


EPOCHS = Axes(Word("epoch"))


def lines(
    title: Text, series: Sequence[Series], *, level: tuple[Text, Number] | None = None, axes: Axes = EPOCHS
) -> Html | None:
    """A line chart; none where nothing was measured.

    Args:
        title: heading.
        series: the lines; those that fall by more than twenty times are drawn on a log axis.
        level: a horizontal line for comparison, such as the teacher's own value.
        axes: what they count; by default x counts epochs.
    """
    drawn = [one for one in series if one.known]
    if not drawn:
        return None
    room = min(150.0, max(width_of(english(label)) for label in [*(s.label for s in drawn), *(level or ())[:1]]))
    height, left, right, top, bottom = 250, 46, WIDTH - room - 12, 12, 206
    values = [y for one in drawn for _, y in one.known]
    height_of_level = measured(level[1]) if level else None
    values += [] if height_of_level is None else [height_of_level]
    log = min(values) > 0 and max(values) / min(values) > 20
    ys = Scale(*axes.heights, bottom, top) if axes.heights else Scale.around(values, bottom, top, log=log)
    epochs = [x for one in drawn for x, _ in one.known]
    xs = Scale(min(epochs), max(*epochs, min(epochs) + 1), left, right, whole=axes.whole)
    parts = [left_axis(ys, left, right), bottom_axis(xs, bottom, bottom - 4, label=axes.label)]
    labels: list[tuple[float, Text, str]] = []
    if level and height_of_level is not None:
        y = ys(height_of_level)
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="line teacher level"))
        labels.append((y, level[0], "end teacher"))
    for one in drawn:
        path = "M" + "L".join(f"{xs(x):.1f},{ys(y):.1f}" for x, y in one.known)
        parts.append(
            element("path", element("title", english(one.label) or one.style), d=path, class_=f"line {one.style}")
        )
        best = [(x, y) for x, y in one.known if x == one.best]
        parts += [element("circle", cx=xs(x), cy=ys(y), r=3.6, class_=f"best {one.style}") for x, y in best]
        if one.label:
            labels.append((ys(one.known[-1][1]), one.label, f"end {one.style}"))
    parts.append(end_labels(labels, right + 8, top + 4, bottom))
    said = [f"{english(s.label) or s.style}: {number(s.known[0][1])} to {number(s.known[-1][1])}" for s in drawn]
    return figure(title, "; ".join(said), height, *parts)


@dataclass(frozen=True)
class Interval:
    """One line of a forest plot: a mean, and the range it may lie in."""

    label: str
    role: Role
    mean: Number
    low: Number = None
    high: Number = None


def intervals(
    title: Text, rows: Sequence[Interval], *, sides: tuple[Word, Word] | None = None, unit: Unit = "plain"
) -> Html | None:
    """A forest plot; none where nothing was measured.

    Args:
        title: heading.
        rows: from top to bottom.
        sides: what left and right of zero mean; given, a line stands at zero.
        unit: of the values written at the right.
    """
    values = [v for row in rows for held in (row.mean, row.low, row.high) if (v := measured(held)) is not None]
    if not values:
        return None
    step, top = 24, 10 if sides is None else 30
    names = min(140.0, max(width_of(row.label) for row in rows) + 20)
    left, right, bottom = names + 8, WIDTH - 64, top + step * len(rows)
    xs = Scale.around([*values, 0.0] if sides else values, left, right)
    parts = [bottom_axis(xs, bottom, top)]
    if sides:
        zero = xs(0)
        parts.append(element("line", x1=zero, x2=zero, y1=top - 4, y2=bottom, class_="zero"))
        # Placed by the box, not by zero: zero may lie at the very edge of it.
        parts.append(text("text", sides[0], x=0, y=top - 14, class_="axis"))
        parts.append(text("text", sides[1], x=WIDTH, y=top - 14, text_anchor="end", class_="axis"))
    for i, row in enumerate(rows):
        parts.append(_interval(row, top + step * (i + 0.5), xs, names, unit))
    said = [
        f"{r.label} ({r.role}): {number(r.mean, unit)}, {number(r.low, unit)} to {number(r.high, unit)}" for r in rows
    ]
    return figure(title, "; ".join(said), bottom + 26, *parts)


def _interval(row: Interval, y: float, xs: Scale, names: float, unit: Unit) -> Html:
    said = f"{row.label}: {number(row.mean, unit)}, {number(row.low, unit)} to {number(row.high, unit)}"
    parts = [
        symbol(row.role, 7, y, size=4.2),
        text("text", shortened(row.label, names - 18), x=18, y=y + 4, class_="name"),
        text("text", number(row.mean, unit), x=WIDTH, y=y + 4, text_anchor="end", class_="value"),
    ]
    if (low := measured(row.low)) is not None and (high := measured(row.high)) is not None:
        a, b = xs(low), xs(high)
        ends = f"M{a:.1f},{y:.1f}H{b:.1f}M{a:.1f},{y - 4:.1f}v8M{b:.1f},{y - 4:.1f}v8"
        parts.append(element("path", element("title", said), d=ends, class_=f"whisker {row.role}"))
    if (mean := measured(row.mean)) is not None:
        parts.append(symbol(row.role, xs(mean), y, title=said))
    return join(parts)


@dataclass(frozen=True)
class Point:
    """One model in a scatter."""

    label: str
    role: Role
    x: Number
    y: Number


def scatter(title: Text, points: Sequence[Point], *, unit: Unit, label: Text) -> Html | None:
    """Quality against what it costs, on a log axis; none where fewer than two models have both.

    A trivial baseline that is far below everybody would press the others together: it stands at the
    edge, with an arrow and its value.

    Args:
        title: heading.
        points: models.
        unit: of x.
        label: under the x axis.
    """
    held = [(measured(p.x), measured(p.y), p) for p in points]
    drawn = [(x, y, p) for x, y, p in held if x is not None and y is not None and x > 0]
    if len(drawn) < 2:
        return None
    height, left, right, top, bottom = 300, 46, WIDTH - 6, 12, 254
    xs = Scale.around([x for x, _, _ in drawn], left, right, log=True, room=0.14)
    low, high = _window(drawn)
    ys = Scale.around([min(max(y, low), high) for _, y, _ in drawn], bottom, top, room=0.1)
    places = [(xs(x), ys(min(max(y, low), high))) for x, y, _ in drawn]
    parts = [left_axis(ys, left, right), bottom_axis(xs, bottom, top, unit, label)]
    boxes = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    for (x, y), (cost, quality, p) in zip(places, drawn, strict=True):
        arrow = "↓" if quality < low else "↑" if quality > high else ""
        name = f"{p.label} {arrow} {number(quality)}" if arrow else p.label
        spot = _free(x, y, width_of(name), boxes, (left, top, right, bottom))
        boxes.append(spot.box)
        parts.append(symbol(p.role, x, y, title=f"{p.label} ({p.role}): {number(quality)}, {number(cost, unit)}"))
        parts.append(text("text", name, x=spot.x, y=spot.y, text_anchor=spot.anchor, class_=f"end {p.role}"))
    said = "; ".join(f"{p.label} ({p.role}): {number(y)} at {number(x, unit)}" for x, y, p in drawn)
    return figure(title, said, height, *parts)


def _window(drawn: Sequence[tuple[float, float, Point]]) -> tuple[float, float]:
    """The qualities worth showing: those of all but the trivial, and half as much again on both sides."""
    held = [y for _, y, p in drawn if p.role != "trivial"] or [y for _, y, _ in drawn]
    room = (max(held) - min(held)) / 2 or abs(max(held)) / 10
    return min(held) - room, max(held) + room


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Spot:
    """A place for a label: which side of it is held fast, so that no font makes it run into its point."""

    x: float
    y: float
    anchor: str
    width: float

    @property
    def box(self) -> Box:
        """The room it takes, in pixels: left, top, right, bottom."""
        left = self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor] * self.width
        return left, self.y - 11, left + self.width, self.y + 3


def _free(x: float, y: float, width: float, taken: Sequence[Box], frame: Box) -> Spot:
    """The spot beside a point that covers least of what is drawn already."""
    beside = [(9.0, 4.0, "start"), (-9.0, 4.0, "end"), (0.0, -12.0, "middle"), (0.0, 20.0, "middle")]
    corners = [(sign * 9.0, dy, anchor) for dy in (-9.0, 17.0, -22.0) for sign, anchor in ((1, "start"), (-1, "end"))]
    spots = [Spot(x + dx, y + dy, anchor, width) for dx, dy, anchor in [*beside, *corners]]

    def cost(spot: Spot) -> float:
        outside = width * 14 - _overlap(spot.box, frame)
        return sum(_overlap(spot.box, other) for other in taken) + 20 * outside

    return min(spots, key=cost)


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def calibration(title: Text, curves: Sequence[Reliability]) -> Html | None:
    """Accuracy by confidence for several models, beside the diagonal; none where no bin was measured."""
    drawn = [(one, points) for one in curves if (points := _bins(one))]
    if not drawn:
        return None
    left, right, top, bottom = 40, WIDTH - 74, 10, 280
    xs, ys = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    parts = [left_axis(ys, left, right), bottom_axis(xs, bottom, top, label=Word("confidence"))]
    parts.append(element("line", x1=left, y1=bottom, x2=right, y2=top, class_="zero"))
    labels: list[tuple[float, Text, str]] = []
    for one, points in drawn:
        path = "M" + "L".join(f"{xs(x):.1f},{ys(y):.1f}" for x, y, _ in points)
        parts.append(element("path", d=path, class_=f"line {one.role}"))
        for x, y, n in points:
            tip = f"{one.name} ({one.role}): {number(x)} → {number(y)}, n = {number(n, 'count')}"
            parts.append(symbol(one.role, xs(x), ys(y), size=3.6, title=tip))
        labels.append((ys(points[-1][1]), Word(one.role), f"end {one.role}"))
    parts.append(end_labels(labels, right + 10, top + 6, bottom))
    said = "; ".join(f"{one.name} ({one.role}): ECE {number(one.ece)}, {len(points)} bins" for one, points in drawn)
    return figure(title, said, bottom + 44, *parts)


def _bins(curve: Reliability) -> list[tuple[float, float, float]]:
    """(confidence, accuracy, n) of the bins that have them."""
    held = [(measured(b.confidence), measured(b.accuracy), b.n) for b in curve.bins]
    return [(x, y, n) for x, y, n in held if x is not None and y is not None]
