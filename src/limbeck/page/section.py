"""What is shown of one protocol: key figures, table, comparisons, curves, trade-offs, slices, reliability."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from limbeck.page.chart import mark
from limbeck.page.element import Html, element, join, word
from limbeck.page.fact import (
    COMPARED,
    MEANINGS,
    SIZES,
    SPEEDS,
    batch_of,
    best,
    comparison_of,
    comparison_table,
    curve_table,
    direction,
    gradients_of,
    label_of,
    losses_of,
    main_table,
    margin,
    metric_table,
    ordered,
    p50_of,
    reliability_table,
    slice_tables,
    times,
    unsteady,
    value,
)
from limbeck.page.number import MISSING, number
from limbeck.page.plot import Interval, Point, Series, calibration, intervals, lines, scatter
from limbeck.page.table import Table, legend
from limbeck.page.tuning import tuning_parts
from limbeck.page.word import Text, Word, say
from limbeck.report import Comparison, Curve, Metric, Number, Protocol, Role, Row

ROLES: tuple[Role, ...] = ("teacher", "student", "scratch", "trivial")


def protocol_sections(protocol: Protocol, threads: int | None) -> list[Html]:
    """Everything about one protocol, from the figures that matter most downwards."""
    note = say(
        "table_note",
        metric=protocol.headline,
        direction=direction(protocol),
        batch=batch_of(protocol),
        threads=number(threads),
    )
    parts: list[Html | None] = [
        _summary(protocol),
        part(
            Word("table"),
            note,
            main_table(protocol).html(Word("table"), cards=True),
            _behind("metrics", metric_table(protocol)),
        ),
        _comparisons(protocol),
        _tradeoffs(protocol),
        _tunings(protocol),
        _slices(protocol),
        _curves(protocol),
        _reliability(protocol),
    ]
    return [drawn for drawn in parts if drawn is not None]


def part(title: Text, note: Text, *parts: Html | None) -> Html:
    """A part of a section with a heading and a line of explanation."""
    return element(
        "div", element("h3", title), element("p", note, class_="lead") if note else None, *parts, class_="part"
    )


def _behind(title: str, table: Table) -> Html | None:
    if not table.rows:
        return None
    return details(Word(title), table.html(Word(title)))


def details(title: Word, *parts: Html | None) -> Html:
    """What opens on demand."""
    return element("details", element("summary", title), *parts)


def charts(*drawn: Html | None) -> Html | None:
    """Charts beside each other where there is room; none where there are none."""
    held = [one for one in drawn if one is not None]
    return element("div", *held, class_="charts") if held else None


def _summary(protocol: Protocol) -> Html:
    rows = [r for r in ordered(protocol.rows) if protocol.headline in r.metrics]
    plotted = [_interval(row, row.metrics[protocol.headline]) for row in rows]
    chart = intervals((protocol.headline, "·", direction(protocol)), plotted)
    roles = [role for role in ROLES if any(r.role == role for r in rows)]
    side = element("div", chart, legend(roles), class_="panel") if chart else None
    busy = unsteady(protocol)
    warning = [element("p", busy, class_="warning", role="note")] if busy else []
    return join([element("div", _tiles(protocol), side, class_="summary"), *warning])


def _interval(row: Row, metric: Metric) -> Interval:
    return Interval(label_of(row), row.role, metric.mean, metric.low, metric.high)


def _tiles(protocol: Protocol) -> Html:
    student = best(protocol)
    teacher = best(protocol, "teacher")
    known = comparison_of(protocol, student.name) if student else None
    scratch = next((r for r in protocol.rows if r.role == "scratch" and known and r.name == known.scratch), None)
    tiles = [_model_tile(r, row, protocol) for r, row in zip(ROLES, (teacher, student, scratch), strict=False)]
    tiles.append(_kept_tile(known, protocol.chance))
    large, small = (teacher.bytes if teacher else None), (student.bytes if student else None)
    note = say("from_to", before=number(large, "bytes"), after=number(small, "bytes"))
    tiles.append(_tile((Word("size"),), times(large, small, SIZES), note))
    slow, fast = p50_of(teacher), p50_of(student)
    note = say("from_to", before=number(slow, "ms"), after=number(fast, "ms"))
    tiles.append(_tile((Word("p50_title"),), times(slow, fast, SPEEDS), note))
    return element("dl", *tiles, class_="tiles")


def _kept_tile(known: Comparison | None, chance: Number) -> Html:
    """What was kept; where a blind guess is worth something, of what lies above it."""
    whole, lift = (number(n, "percent") for n in ((known.retention, known.lift_retention) if known else (None, None)))
    if chance is None:
        return _tile((Word("kept"),), (whole, ""), say("kept_note", lift=lift))
    return _tile((Word("kept"),), (lift, ""), say("kept_above", chance=number(chance, digits=1)))


def _model_tile(role: Role, row: Row | None, protocol: Protocol) -> Html:
    metric = row.metrics.get(protocol.headline) if row else None
    label = join([mark(role), element("span", Word(role))])
    figure = (number(metric.mean if metric else None), margin(metric) if metric else "")
    return _tile((), figure, row.name if row else MISSING, label=label, role=role)


def _tile(name: Text, figure: tuple[str, Text], note: Text, *, label: Html | None = None, role: str = "") -> Html:
    """A figure that never breaks; a word or a margin beside it, or below where there is no room."""
    said, beside = figure
    shown = element("dd", element("b", said), " ", element("small", beside) if beside else None, class_="figure")
    return element("div", element("dt", label, name or None), shown, element("dd", note), class_=f"tile {role}".strip())


def _comparisons(protocol: Protocol) -> Html | None:
    if not protocol.comparisons:
        return None
    up = protocol.higher_is_better
    sides = ("scratch_better", "student_better") if up else ("student_better_left", "scratch_better_right")
    plotted = [Interval(c.student, "student", c.difference, c.low, c.high) for c in protocol.comparisons]
    title: Text = (Word("difference"), "·", protocol.headline)
    chart = intervals(title, plotted, sides=(Word(sides[0]), Word(sides[1])), unit="difference")
    drawn = charts(chart, glossary(COMPARED))
    return part(
        Word("comparisons"),
        Word("comparisons_note"),
        drawn,
        comparison_table(protocol).html(Word("comparisons"), cards=True),
    )


def glossary(keys: Sequence[str]) -> Html:
    """Words of the page, each with a line on what it means."""
    pairs = [join([word("dt", Word(key)), word("dd", Word(MEANINGS[key]))]) for key in keys]
    return element("dl", *pairs, class_="glossary")


def _tradeoffs(protocol: Protocol) -> Html | None:
    rows = ordered(protocol.rows)

    def points(costs: list[Number]) -> list[Point]:
        return [Point(label_of(r), r.role, x, value(r, protocol.headline)) for r, x in zip(rows, costs, strict=True)]

    speed = scatter(Word("latency_title"), points([p50_of(r) for r in rows]), unit="ms", label=Word("latency"))
    sizes: list[Number] = [r.bytes for r in rows]
    size = scatter(Word("size_title"), points(sizes), unit="bytes", label=Word("size"))
    drawn = charts(speed, size)
    note = Word("tradeoffs_note" if protocol.higher_is_better else "tradeoffs_note_lower")
    return part(Word("tradeoffs"), note, drawn) if drawn else None


def _tunings(protocol: Protocol) -> Html | None:
    note = say("tuning_note", metric=protocol.headline)
    return part(Word("tuning"), note, *tuning_parts(protocol)) if protocol.tunings else None


def _slices(protocol: Protocol) -> Html | None:
    drawn = []
    for metric, table in slice_tables(protocol):
        note = say("slices_note", metric=metric)
        drawn.append(join([element("p", note, class_="lead"), table.html(note)]))
    if not drawn:
        return None
    return part(Word("slices"), "", drawn[0], details(Word("slices_more"), *drawn[1:]) if drawn[1:] else None)


def _curves(protocol: Protocol) -> Html | None:
    drawn = charts(*_curve_charts(protocol))
    if drawn is None:
        return None
    gradients = charts(*_gradient_charts(protocol))
    behind = details(Word("gradients_title"), gradients) if gradients else None
    note = say("curves_note", metric=protocol.headline)
    return part(Word("curves"), note, drawn, behind, _behind("numbers", curve_table(protocol)))


def _curve_charts(protocol: Protocol) -> Iterator[Html | None]:
    gate = protocol.gate
    level = gate.teacher if gate and gate.metric == protocol.headline else None
    for name in dict.fromkeys(c.name for c in protocol.curves):
        curves = [c for c in protocol.curves if c.name == name]
        labelled: set[str] = set()
        series = []
        for c in curves:
            label: Text = "" if c.role in labelled else Word(c.role)
            labelled.add(c.role)
            series.append(Series(label, c.role, tuple(zip(c.x, c.validation, strict=False)), c.best))
        beside = None if all(c.role == "teacher" for c in curves) else (Word("teacher"), level)
        yield lines((name, "·", Word("validation")), series, level=beside)
        yield lines((name, "·", Word("terms")), list(_terms(curves, losses_of)))


def _gradient_charts(protocol: Protocol) -> Iterator[Html | None]:
    for name in dict.fromkeys(c.name for c in protocol.curves):
        curves = [c for c in protocol.curves if c.name == name]
        yield lines((name, "·", Word("gradients")), list(_terms(curves, gradients_of)))


def _terms(curves: list[Curve], of: Callable[[Curve], Mapping[str, Sequence[Number]]]) -> Iterator[Series]:
    """The terms of the first training of every role; the twin's are told apart by dashes."""
    seen: dict[str, int] = {}
    for role in ("student", "scratch", "teacher"):
        first = next((c for c in curves if c.role == role), None)
        for term, values in of(first).items() if first else ():
            colour = seen.setdefault(term, len(seen)) % 5
            style = f"term{colour}" if role != "scratch" else f"term{colour} twin"
            label: Text = (term, Word("scratch")) if role == "scratch" else term
            yield Series(label, style, tuple(zip(first.x if first else (), values, strict=False)))


def _reliability(protocol: Protocol) -> Html | None:
    teachers = [r for r in protocol.reliability if r.role == "teacher"]
    names = dict.fromkeys(r.name for r in protocol.reliability if r.role != "teacher") or dict.fromkeys([""])
    drawn = []
    for name in names:
        curves = [*teachers, *(r for r in protocol.reliability if r.name == name and r.role != "teacher")]
        eces = tuple(piece for r in curves for piece in (Word(r.role), number(r.ece), "·"))[:-1]
        drawn.append(calibration((*((name, "·") if name else ()), "ECE", *eces), curves))
    held = charts(*drawn)
    table = _behind("numbers", reliability_table(protocol))
    return part(Word("reliability"), Word("reliability_note"), held, table) if held else None
