"""Several runs side by side: one table for every question they answered alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from limbeck.page.document import document, section
from limbeck.page.element import Html, element, join
from limbeck.page.fact import between, comparison_of, direction, label_of, ordered, p50_of, spread, title_of, value
from limbeck.page.number import number
from limbeck.page.plot import Interval, Point, intervals, scatter
from limbeck.page.section import charts
from limbeck.page.table import Cell, Table, escape_markdown
from limbeck.page.word import Text, Word, say
from limbeck.report import Metric, Number, Protocol, Report, Row


@dataclass(frozen=True)
class Entry:
    """One row of one run."""

    run: str
    protocol: Protocol
    row: Row

    @property
    def quality(self) -> Number:
        """Its headline metric."""
        return value(self.row, self.protocol.headline)

    @property
    def p50(self) -> Number:
        """Its median latency, ms."""
        return p50_of(self.row)


def groups(reports: Mapping[str, Report]) -> dict[tuple[str, str, str], list[Entry]]:
    """(run's title, protocol, headline) -> the rows of all runs that answered it, in the order given."""
    answer: dict[tuple[str, str, str], list[Entry]] = {}
    for run, report in reports.items():
        for protocol in (p for p in report.protocols if p.rows):
            entries = answer.setdefault((title_of(report), protocol.name, protocol.headline), [])
            entries += [Entry(run, protocol, row) for row in ordered(protocol.rows)]
    return answer


def compare_page(reports: Mapping[str, Report]) -> str:
    """Several runs as one HTML file.

    Args:
        reports: name of the run -> its report. Runs on the same task, data and protocol share a table.
    """
    verdicts = [
        join([element("dt", run, dir="auto"), element("dd", r.verdict, lang="en", dir="auto")])
        for run, r in reports.items()
    ]
    parts = [section("verdicts", Word("verdict"), element("dl", *verdicts, class_="glossary"))]
    contents: list[tuple[str, Text]] = [("verdicts", Word("verdict"))]
    for i, ((title, protocol, headline), entries) in enumerate(groups(reports).items()):
        note = say("compare_note", metric=headline, direction=direction(entries[0].protocol))
        heading = f"{title} · {protocol}"
        contents.append((f"g{i}", heading))
        lead = element("p", note, class_="lead")
        parts.append(
            section(f"g{i}", heading, lead, table(entries).html(Word("metrics"), cards=True), *_charts(entries))
        )
    return document((Word("compare"), "·", ", ".join(reports)), contents, parts)


def compare_markdown(reports: Mapping[str, Report]) -> str:
    """Several runs as Markdown, in English."""
    parts = [f"# {Word('compare').say()}"]
    parts.append("\n".join(f"- **{escape_markdown(run)}**: {escape_markdown(r.verdict)}" for run, r in reports.items()))
    for (title, protocol, headline), entries in groups(reports).items():
        note = say("compare_note", metric=headline, direction=direction(entries[0].protocol))
        parts += [
            f"## {escape_markdown(f'{title} · {protocol}')}",
            escape_markdown(note.say()),
            table(entries).markdown(),
        ]
    return "\n\n".join(parts) + "\n"


def table(entries: list[Entry]) -> Table:
    """The rows of all runs, the best students' figures marked."""
    sign = -1 if entries[0].protocol.higher_is_better else 1
    leader = _least(entries, lambda e: None if e.quality is None else sign * e.quality)
    smallest = _least(entries, lambda e: e.row.bytes)
    fastest = _least(entries, lambda e: e.p50)
    kept = "retention" if entries[0].protocol.chance is None else "lift_retention"
    rows = []
    for e in entries:
        metric = e.row.metrics.get(e.protocol.headline, Metric(None))
        judged = e.row.role == "student" and e.row.precision != "int8"  # comparisons are of the student itself
        known = comparison_of(e.protocol, e.row.name) if judged else None
        rows.append(
            (
                e.run,
                Cell(label_of(e.row), role=e.row.role),
                Cell(spread(metric), best=e is leader),
                between(metric.low, metric.high),
                number(getattr(known, kept, None), "percent"),
                number(known.difference if known else None, "difference"),
                number(e.row.parameters, "count"),
                Cell(number(e.row.bytes, "bytes"), best=e is smallest),
                Cell(number(e.p50, "ms"), best=e is fastest),
                number(e.row.rows_per_second, "count"),
            )
        )
    heads = ("interval", kept, "difference", "parameters", "size", "p50", "rows_per_second")
    return Table((Word("run"), Word("model"), entries[0].protocol.headline, *map(Word, heads)), tuple(rows), words=2)


def _least(entries: list[Entry], measure: Callable[[Entry], Number]) -> Entry | None:
    known = [(v, e) for e in entries if e.row.role == "student" and (v := measure(e)) is not None and math.isfinite(v)]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def _charts(entries: list[Entry]) -> Iterator[Html]:
    students = [e for e in entries if e.row.role in {"teacher", "student"}]
    labels = [f"{label_of(e.row)} ({e.run})" for e in students]
    held = [
        (e, label, e.row.metrics.get(e.protocol.headline, Metric(None)))
        for e, label in zip(students, labels, strict=True)
    ]
    forest = intervals(
        (entries[0].protocol.headline, "·", direction(entries[0].protocol)),
        [Interval(label, e.row.role, m.mean, m.low, m.high) for e, label, m in held],
    )
    points = [Point(label, e.row.role, e.p50, m.mean) for e, label, m in held]
    drawn = charts(forest, scatter(Word("latency_title"), points, unit="ms", label=Word("latency")))
    if drawn:
        yield drawn
