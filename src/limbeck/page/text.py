"""The report as Markdown: the same facts as the page, for pull requests and terminals."""

from __future__ import annotations

from limbeck.page.fact import (
    MEANINGS,
    artifact_table,
    batch_of,
    comparison_table,
    cost_sentence,
    curve_table,
    direction,
    fact_table,
    gate_sentence,
    main_table,
    metric_table,
    protocol_facts,
    reliability_table,
    second_table,
    slice_tables,
    title_of,
    unsteady,
)
from limbeck.page.number import number
from limbeck.page.robustness import robustness_note, robustness_tables
from limbeck.page.table import Table, escape_markdown
from limbeck.page.tuning import front_table, tuning_counts, tuning_sentences
from limbeck.page.word import Word, say
from limbeck.report import Protocol, Report


def markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown, in English. Rows of data are never in it."""
    parts = [f"# {escape_markdown(title_of(report))}", f"**{escape_markdown(report.verdict)}**"]
    for protocol in report.protocols:
        parts += _protocol(protocol, report)
    parts += _robustness(report)
    parts += _section("artifacts", artifact_table(report), level=2)
    parts.append(f"## {Word('facts').say()}")
    parts.append(f"{Word('threads').say()}: {number(report.threads)}")
    parts += [table.markdown() for table in (fact_table(report.data), second_table(report)) if table.rows]
    parts.append(f"## {Word('glossary').say()}")
    parts.append("\n".join(f"- **{Word(key).say()}**: {Word(meaning).say()}" for key, meaning in MEANINGS.items()))
    return "\n\n".join(parts) + "\n"


def _protocol(protocol: Protocol, report: Report) -> list[str]:
    note = say(
        "table_note",
        metric=protocol.headline,
        direction=direction(protocol),
        batch=batch_of(protocol),
        threads=number(report.threads),
    )
    parts = [f"## {escape_markdown(protocol.name)}", escape_markdown(note.say())]
    parts += [escape_markdown(sentence.say()) for sentence in gate_sentence(protocol)]
    cost = cost_sentence(protocol)
    parts += [escape_markdown(said.say()) for said in (cost, unsteady(protocol)) if said]
    parts.append(main_table(protocol).markdown())
    parts += _section("comparisons", comparison_table(protocol))
    parts += _section("tuning", tuning_counts(protocol))
    parts += [escape_markdown(sentence.say()) for sentence in tuning_sentences(protocol)]
    parts += [front_table(protocol).markdown()] if protocol.tunings else []
    parts += _section("metrics", metric_table(protocol))
    for metric, table in slice_tables(protocol):
        parts += [f"### {Word('slices').say()}: {escape_markdown(metric)}", table.markdown()]
    parts += _section("curves", curve_table(protocol))
    parts += _section("reliability", reliability_table(protocol))
    return parts + _section("facts", protocol_facts(protocol))


def _robustness(report: Report) -> list[str]:
    found = report.robustness
    if found is None:
        return []
    how = "\n".join(f"- **{name}**: {escape_markdown(said)}" for name, said in found.how.items())
    tables = [table.markdown() for table in robustness_tables(found)]
    return [f"## {Word('robustness').say()}", escape_markdown(robustness_note(found).say()), *tables, how]


def _section(heading: str, table: Table, level: int = 3) -> list[str]:
    return [f"{'#' * level} {Word(heading).say()}", table.markdown()] if table.rows else []
