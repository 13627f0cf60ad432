"""The page around a report: its sections from the verdict down, and the one file that holds them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from limbeck.page.browser import browser
from limbeck.page.element import Html, element, join, script_json
from limbeck.page.fact import (
    artifact_table,
    fact_table,
    gate_sentence,
    protocol_facts,
    second_table,
    title_of,
)
from limbeck.page.number import number
from limbeck.page.robustness import robustness_parts
from limbeck.page.section import ROLES, details, glossary, protocol_sections
from limbeck.page.table import Table
from limbeck.page.word import WORDS, Text, Word, english
from limbeck.report import Protocol, Report, plain

LOGO = Html(
    '<svg viewBox="0 0 32 32" class="logo" aria-hidden="true"><path d="M11 4v7a8.5 8.5 0 1 0 6 0V7.500L28 13v9"/>'
    '<path d="M8.500 3.500h8.500"/><circle cx="28" cy="26.500" r="1.800"/></svg>'
)


def draw(report: Report, rows: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The report as one HTML file that needs nothing else, network included.

    Args:
        report: what to draw.
        rows: for the browser of rows, as `limbeck.report.save_rows` describes them; their raw
            values become part of the page, so a page drawn with rows belongs in the run's folder.

    Returns:
        HTML that opens from file://, under 300 KB without rows.
    """
    parts = [_verdict(report)]
    parts += [_protocol(i, protocol, report) for i, protocol in enumerate(report.protocols)]
    parts += [browser(report.protocols)] if rows else []
    if report.robustness:
        parts.append(section("robustness", Word("robustness"), *robustness_parts(report.robustness)))
    if report.artifacts:
        parity = element("p", Word("artifacts_note"), class_="lead")
        parts.append(section("artifacts", Word("artifacts"), parity, artifact_table(report).html(Word("artifacts"))))
    parts.append(_facts(report))
    titles: list[tuple[str, Text]] = [(f"p{i}", p.name) for i, p in enumerate(report.protocols)]
    titles += [("rows", Word("rows"))] if rows else []
    titles += [("robustness", Word("robustness"))] if report.robustness else []
    titles += [("artifacts", Word("artifacts"))] if report.artifacts else []
    return document(title_of(report), [*titles, ("facts", Word("facts"))], parts, rows=rows or ())


def document(
    title: Text, contents: Sequence[tuple[str, Text]], parts: Sequence[Html], *, rows: Sequence[Mapping[str, Any]] = ()
) -> str:
    """One HTML file around some sections.

    Args:
        title: in the window's bar and above everything.
        contents: (id, title) of the sections that can be jumped to.
        parts: the sections.
        rows: for the browser of rows.
    """
    here = files("limbeck.page")
    style, script, template = (
        (here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    links = [element("a", name, href=f"#{anchor}") for anchor, name in contents]
    languages = [
        element("button", said, type="button", class_="language", value=code, lang=code, aria_pressed=pressed)
        for code, said, pressed in (("en", "English", "true"), ("zh", "中文", "false"))
    ]
    head = element(
        "header",
        element("p", LOGO, "Limbeck", class_="brand"),
        element("div", *languages, role="group", class_="languages", data_t_label="language", aria_label="Language"),
        element("nav", *links, data_t_label="contents", aria_label="Contents"),
    )
    body = join([head, element("main", element("h1", title, dir="auto"), *parts)])
    digest = b64encode(sha256(script.encode()).digest()).decode()
    # Only this very script may run: markup that slipped in could not bring its own.
    return Template(template).substitute(
        hash=f"sha256-{digest}",
        title=escape(english(title)),
        style=style,
        body=body,
        words=script_json(WORDS),
        rows=script_json(plain(list(rows))),
        script=script,
    )


def section(anchor: str, title: Text, *parts: Html | None) -> Html:
    """A section with its heading."""
    return element("section", element("h2", title, dir="auto"), *parts, id=anchor)


def _verdict(report: Report) -> Html:
    first, stop, more = report.verdict.partition(". ")
    verdict = element("p", first + stop.strip(), class_="verdict", lang="en", dir="auto")
    rest = element("p", more, class_="more-verdict", lang="en", dir="auto") if more else None
    warnings = [
        element("p", (f"{protocol.name}:", *gate_sentence(protocol)), class_="warning", role="note")
        for protocol in report.protocols
        if protocol.overridden
    ]
    return join((verdict, rest, *warnings))


def _protocol(i: int, protocol: Protocol, report: Report) -> Html:
    kind = element("span", Word("protocol"), class_="eyebrow")
    heading = element("h2", kind, element("span", protocol.name, dir="auto"))
    gate = [element("p", sentence, class_="lead") for sentence in gate_sentence(protocol)[:1]]
    facts = details(Word("facts"), protocol_facts(protocol).html(Word("facts")))
    return element("section", heading, *gate, *protocol_sections(protocol, report.threads), facts, id=f"p{i}")


def _facts(report: Report) -> Html:
    run = Table(
        (Word("fact"), Word("value")), ((Word("task"), report.task), (Word("threads"), number(report.threads))), 2
    )
    tables = [t for t in (run, fact_table(report.data), second_table(report)) if t.rows]
    return join(
        [
            section("facts", Word("facts"), element("div", *(t.html(Word("facts")) for t in tables), class_="pair")),
            section("glossary", Word("glossary"), glossary(ROLES)),
        ]
    )
