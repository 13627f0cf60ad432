"""What a search found: in sentences, as a chart of its front, and as a table."""

from __future__ import annotations

from collections.abc import Mapping

from limbeck.front import Candidate, Number, Picked, Tuning
from limbeck.page.element import Html, element
from limbeck.page.fact import value
from limbeck.page.number import MISSING, Unit, number
from limbeck.page.plot import Point, scatter
from limbeck.page.table import Cell, Table
from limbeck.page.word import Word, say
from limbeck.report import Protocol

UNITS: Mapping[str, Unit] = {"bytes": "bytes", "parameters": "count", "p95_ms": "ms"}
SURE = 0.05
NAMES = {"bytes": "size", "parameters": "parameters", "p95_ms": "p95"}


def tuning_sentences(protocol: Protocol) -> list[Word]:
    """What came of every student's search: the best within the budget, and the best that is no larger."""
    return [said for one in protocol.tunings if one.role == "student" for said in _sentences(protocol, one)]


def _sentences(protocol: Protocol, found: Tuning) -> list[Word]:
    twin = next((t for t in protocol.tunings if t.role == "scratch" and t.student == found.student), found)
    about: dict[str, str | Word] = {
        "student": found.student,
        "trials": number(found.trials, "count"),
        "twin": number(twin.trials, "count"),
        "budget": _budget(found),
        "metric": protocol.headline,
        "given": number(_test(protocol, found.student)),
        "size": number(found.given.bytes if found.given else None, "bytes"),
    }
    if found.best is None:
        return [say("tuning_none", **about)]
    first = say("tuning_best", **about, **_told(protocol, found.best))
    if found.lean is None:
        return [first, say("tuning_lean_none", **about)]
    difference = found.lean.difference or 0.0
    better = difference > 0 if protocol.higher_is_better else difference < 0
    sure = Word("surely_better" if (found.lean.p_value or 0.0) < SURE else "perhaps_better")
    told = {**about, **_told(protocol, found.lean), "better": sure}
    return [first, say("tuning_lean" if better else "tuning_lean_worse", **told)]


def _told(protocol: Protocol, picked: Picked) -> dict[str, str | Word]:
    return {
        "name": picked.name,
        "precision": picked.candidate.precision,
        "bytes": number(picked.candidate.bytes, "bytes"),
        "value": number(_test(protocol, picked.name)),
        "p": number(picked.p_value, "p"),
    }


def _budget(found: Tuning) -> str | Word:
    limits = [f"{NAMES[name].replace('_', ' ')} ≤ {number(limit, UNITS[name])}" for name, limit in found.budget.items()]
    return ", ".join(limits) or Word("no_limit")


def _test(protocol: Protocol, name: str) -> Number:
    rows = [r for r in protocol.rows if r.role == "student" and r.name == name and r.precision != "int8"]
    return value(rows[0], protocol.headline) if rows else None


def front_table(protocol: Protocol) -> Table:
    """The files that no other file of their search beats, from the smallest upwards."""
    rows = []
    for found in protocol.tunings:
        for one in sorted((c for c in found.candidates if c.front), key=lambda c: c.bytes):
            name = next((p.name for p in (found.best, found.lean) if p and _same(p.candidate, one)), "")
            rows.append((
                Cell((name or found.student), role=found.role, best=bool(name)),
                _settings(one),
                one.precision,
                number(one.value),
                number(one.bytes, "bytes"),
                number(one.parameters, "count"),
                number(one.p95_ms, "ms"),
                Word("yes" if one.fits else "no"),
                number(one.trial, "count"),
            ))  # fmt: skip
    heads = ("model", "settings", "precision", "validation", "size", "parameters", "p95", "fits", "trial")
    return Table(tuple(map(Word, heads)), tuple(rows), words=3)


def _same(a: Candidate, b: Candidate) -> bool:
    return (a.trial, a.precision) == (b.trial, b.precision)


def _settings(one: Candidate) -> str:
    return ", ".join(f"{key.removeprefix('training.')} {value}" for key, value in one.settings.items()) or MISSING


def front_chart(protocol: Protocol) -> Html | None:
    """Quality on validation rows against size, for the fronts of all searches and the students as given."""
    points = []
    for found in protocol.tunings:
        front = [one for one in found.candidates if one.front]
        points += [Point(f"{one.precision} #{one.trial}", found.role, one.bytes, one.value) for one in front]
        if found.given is not None:
            points.append(Point(found.student, "student", found.given.bytes, found.given.value))
    return scatter(Word("front_title"), points, unit="bytes", label=Word("size"))


def tuning_counts(protocol: Protocol) -> Table:
    """How many trials every search made, and what became of them."""
    rows = tuple(
        (
            Cell(found.student, role=found.role),
            number(found.trials, "count"),
            number(found.pruned, "count"),
            number(found.failed, "count"),
            number(len({one.trial for one in found.candidates if one.fits}), "count"),
        )
        for found in protocol.tunings
    )
    return Table(tuple(map(Word, ("model", "trials", "pruned", "failed", "fits"))), rows)


def tuning_parts(protocol: Protocol) -> list[Html | None]:
    """All of it, for the page."""
    chart = front_chart(protocol)
    return [
        *(element("p", sentence) for sentence in tuning_sentences(protocol)),
        element("div", chart, class_="charts") if chart else None,
        tuning_counts(protocol).html(Word("trials")),
        front_table(protocol).html(Word("front_title")),
    ]
