"""The tables a report holds, whether drawn as a page or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from limbeck.page.number import MISSING, Unit, measured, number
from limbeck.page.table import Cell, Table
from limbeck.page.word import Text, Word, say
from limbeck.report import Comparison, Curve, Metric, Number, Protocol, Report, Row

GROUPS = {"teacher": 0, "student": 1, "scratch": 1, "trivial": 2}
SIBLINGS = {"student": 0, "scratch": 1}
UNSTEADY = 3.0
"""Times p50 that p95 may be; quiet machines stay below 2."""
GRADIENT, WHOLE = "gradient_norm", "loss"
"""Names among a curve's terms: what lengths of gradients begin with, and the sum of all terms."""


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Teachers first, then every student with its twin below it, then the trivial baselines."""
    rows = list(rows)
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        first.setdefault(row.name, i)
    return sorted(rows, key=lambda r: (GROUPS[r.role], first[r.name], SIBLINGS.get(r.role, 0)))


def value(row: Row, metric: str) -> Number:
    """The mean of one metric, if it was measured."""
    return row.metrics[metric].mean if metric in row.metrics else None


def best(protocol: Protocol, role: str = "student") -> Row | None:
    """The row of a role with the best headline; a quantised one only where there is no other."""
    held = [row for row in protocol.rows if row.role == role]
    rows = [row for row in held if row.precision != "int8"] or held
    sign = 1 if protocol.higher_is_better else -1
    found = [(sign * v, row) for row in rows if (v := measured(value(row, protocol.headline))) is not None]
    return max(found, key=lambda pair: pair[0])[1] if found else next(iter(rows), None)


def comparison_of(protocol: Protocol, student: str) -> Comparison:
    """The comparison of a student, or one that knows nothing."""
    found = (c for c in protocol.comparisons if c.student == student)
    return next(found, Comparison(student=student, scratch=student))


def label_of(row: Row) -> str:
    """A row's name, with its precision where several artifacts of one student stand side by side."""
    return f"{row.name} int8" if row.precision == "int8" else row.name


def spread(metric: Metric) -> str:
    """`mean ± sd`; what did not vary, or was trained once, has no `± 0` that would look like certainty."""
    return f"{number(metric.mean)} {margin(metric)}".strip()


def margin(metric: Metric) -> str:
    """`± sd`, or nothing where there is none."""
    sd = measured(metric.sd)
    # Equal trainings differ by rounding in their last digits.
    return f"± {number(sd, digits=2)}" if sd and sd > 1e-9 * abs(metric.mean or 0.0) else ""


def between(low: Number, high: Number, unit: Unit = "plain") -> str:
    """`low to high`, or a dash."""
    both = number(low, unit), number(high, unit)
    return MISSING if both == (MISSING, MISSING) else f"{both[0]} … {both[1]}"


def direction(protocol: Protocol) -> Word:
    """Whether more is better."""
    return Word("higher" if protocol.higher_is_better else "lower")


def main_table(protocol: Protocol) -> Table:
    """Everybody's headline metric and cost."""
    columns = ("parameters", "size", "precision", "p50", "p95", "encode", "rows_per_second", "train_seconds")
    head: tuple[Text, ...] = (Word("model"), protocol.headline, Word("interval"), *map(Word, columns))
    return Table(head, tuple(_main_row(row, protocol.headline) for row in ordered(protocol.rows)))


def _main_row(row: Row, headline: str) -> tuple[Cell | Text, ...]:
    metric = row.metrics.get(headline, Metric(None))
    latency = row.latency_ms
    tuned = None if row.tuned is None else Word("tuned" if row.tuned else "given")
    notes = tuple(piece for piece in (row.teacher_kind, tuned, row.note) if piece)
    apart = tuple(p for i, piece in enumerate(notes) for p in (("·", piece) if i else (piece,)))
    return (
        Cell(label_of(row), note=apart, role=row.role),
        spread(metric),
        between(metric.low, metric.high),
        number(row.parameters, "count"),
        number(row.bytes, "bytes"),
        row.precision or MISSING,
        number(latency.p50 if latency else None, "ms"),
        number(latency.p95 if latency else None, "ms"),
        number(row.encode_ms, "ms"),
        number(row.rows_per_second, "count"),
        number(row.train_seconds, "seconds"),
    )


def metric_table(protocol: Protocol) -> Table:
    """Every metric of everybody."""
    names = list(dict.fromkeys([protocol.headline, *(name for row in protocol.rows for name in row.metrics)]))
    rows = []
    for row in ordered(protocol.rows):
        cells: list[Cell | Text] = [Cell(label_of(row), role=row.role)]
        for name in names:
            metric = row.metrics.get(name, Metric(None))
            known = between(metric.low, metric.high)
            cells.append(Cell(spread(metric), note="" if known == MISSING else known))
        rows.append(tuple(cells))
    return Table((Word("model"), *names), tuple(rows))


COMPARED = ("difference", "interval", "p_value", "retention", "lift_retention", "transfer_ratio", "agreement")


def comparison_table(protocol: Protocol) -> Table:
    """Every student against its honest twin."""
    rows = tuple(
        (
            c.student if c.student == c.scratch else (c.student, "/", c.scratch),
            number(c.difference, "difference"),
            between(c.low, c.high, "difference"),
            number(c.p_value, "p"),
            number(c.retention, "percent"),
            number(c.lift_retention, "percent"),
            number(c.transfer_ratio, "plain", digits=3),
            number(c.agreement, "percent"),
        )
        for c in protocol.comparisons
    )
    return Table((Word("student"), *map(Word, COMPARED)), rows)


def slice_tables(protocol: Protocol) -> Iterator[tuple[str, Table]]:
    """(metric, one row a slice that has it), for every metric that slices were judged by, the headline first."""
    rows = [row for row in ordered(protocol.rows) if row.slices]
    names = list(dict.fromkeys(name for row in rows for name in row.slices))
    metrics = dict.fromkeys(m for row in rows for held in row.slices.values() for m in held if m != "n")
    for metric in sorted(metrics, key=lambda name: name != protocol.headline):
        held = [abs(v) for row in rows for s in row.slices.values() if (v := measured(s.get(metric))) is not None]
        top = max(held, default=0.0)
        lines = []
        for name in names:
            cells: list[Cell | Text] = [name, number(_count(rows, name), "count")]
            for row in rows:
                v = measured(row.slices.get(name, {}).get(metric))
                bar = None if v is None or top == 0 else abs(v) / top
                cells.append(Cell(number(v), bar=bar, kind=row.role))
            if any(measured(row.slices.get(name, {}).get(metric)) is not None for row in rows):
                lines.append(tuple(cells))
        heads = tuple(Cell(label_of(row), role=row.role) for row in rows)
        yield metric, Table((Word("slice"), Word("n"), *heads), tuple(lines))


def times(teacher: Number, student: Number, words: tuple[str, str, str]) -> tuple[str, Word]:
    """How many times less a student costs: `53.9×` and smaller; or larger, or as large, where that is so.

    Args:
        teacher: what the teacher costs.
        student: the same of the student.
        words: for less, more and alike.
    """
    before, after = measured(teacher), measured(student)
    if before is None or after is None or min(before, after) <= 0:
        return MISSING, Word(words[0])
    said = number(max(before, after) / min(before, after), "ratio")
    return said, Word(words[2] if said == number(1.0, "ratio") else words[0] if after < before else words[1])


SIZES = ("smaller", "larger", "as_large")
SPEEDS = ("faster", "slower", "as_fast")


def cost_sentence(protocol: Protocol) -> Word | None:
    """What the best student costs beside the teacher; none where size or latency is not known of both."""
    teacher, student = best(protocol, "teacher"), best(protocol)
    if teacher is None or student is None:
        return None
    size, larger = times(teacher.bytes, student.bytes, SIZES)
    speed, slower = times(p50_of(teacher), p50_of(student), SPEEDS)
    if MISSING in (size, speed):
        return None
    return say("cost", student=student.name, size=size, larger=larger, speed=speed, slower=slower)


def unsteady(protocol: Protocol) -> Word | None:
    """A warning where single answers took much longer than the median: the machine did other work besides."""
    seen = [(row, row.latency_ms) for row in ordered(protocol.rows) if row.latency_ms]
    told = [(row, measured(found.p50), measured(found.p95)) for row, found in seen]
    far = {row.name: p95 / p50 for row, p50, p95 in told if p50 and p95 and p95 > UNSTEADY * p50}
    if not far:
        return None
    return say("unsteady", names=", ".join(far), times=number(max(far.values()), "ratio"))


def p50_of(row: Row | None) -> Number:
    """Its median latency, ms."""
    return row.latency_ms.p50 if row and row.latency_ms else None


def _count(rows: list[Row], name: str) -> Number:
    return next((row.slices[name].get("n") for row in rows if name in row.slices), None)


def curve_table(protocol: Protocol) -> Table:
    """What every training came to."""
    rows = []
    for c in protocol.curves:
        at_best = next((v for x, v in zip(c.x, c.validation, strict=False) if x == c.best), None)
        name = Cell(c.name, role=c.role)
        epochs = number(len(c.x), "count")
        ends = (_ends(losses_of(c)), _ends(gradients_of(c)))
        rows.append((name, str(c.split), str(c.seed), epochs, number(c.best, "count"), number(at_best), *ends))
    heads = ("model", "split", "seed", "epochs", "best_epoch", "best_validation", "final_loss", "final_gradient")
    return Table(tuple(map(Word, heads)), tuple(rows))


def _ends(terms: Mapping[str, Sequence[Number]]) -> str:
    return ", ".join(f"{term} {number(values[-1])}" for term, values in terms.items() if values) or MISSING


def losses_of(curve: Curve) -> dict[str, Sequence[Number]]:
    """The terms of its loss; their sum where there is more than one to sum up."""
    held: dict[str, Sequence[Number]] = {n: v for n, v in curve.terms.items() if n.partition(".")[0] != GRADIENT}
    return {name: values for name, values in held.items() if name != WHOLE or len(held) != 2}


def gradients_of(curve: Curve) -> dict[str, Sequence[Number]]:
    """Term -> the lengths of its gradient, beside those of the whole."""
    held = ((name.partition("."), values) for name, values in curve.terms.items())
    return {term or WHOLE: values for (name, _, term), values in held if name == GRADIENT}


def reliability_table(protocol: Protocol) -> Table:
    """Every bin of every reliability curve."""
    rows = [
        (
            Cell(one.name, role=one.role),
            number(one.ece) if i == 0 else "",
            f"{number(b.low, digits=2)} … {number(b.high, digits=2)}",
            number(b.n, "count"),
            number(b.confidence),
            number(b.accuracy),
        )
        for one in protocol.reliability
        for i, b in enumerate(one.bins)
    ]
    return Table(tuple(map(Word, ("model", "ece", "bin", "n", "confidence", "accuracy"))), tuple(rows))


def artifact_table(report: Report) -> Table:
    """What was exported, and how near it answers to the student."""
    flat = [(a, dict(leaves(a.parity))) for a in report.artifacts]
    keys = list(dict.fromkeys(key for _, parity in flat for key in parity))
    rows = tuple(
        (Cell(a.student, role="student"), a.path, a.precision, *(p.get(k, MISSING) for k in keys)) for a, p in flat
    )
    return Table((Word("student"), Word("path"), Word("precision"), *map(_spaced, keys)), rows, words=2)


def fact_table(facts: Mapping[str, Any]) -> Table:
    """JSON facts, one a line."""
    return Table((Word("fact"), Word("value")), tuple((_spaced(k), v) for k, v in leaves(facts)), words=2)


def protocol_facts(protocol: Protocol) -> Table:
    """Rows per part, splits, seeds, and whatever the task noted."""
    known: list[tuple[Cell | Text, ...]] = [(f"n, {part}", number(n)) for part, n in protocol.n.items()]
    known.append((Word("splits"), ", ".join(map(str, protocol.splits)) or MISSING))
    known.append((Word("seeds"), ", ".join(map(str, protocol.seeds)) or MISSING))
    return Table((Word("fact"), Word("value")), (*known, *fact_table(protocol.facts).rows), words=2)


def second_table(report: Report) -> Table:
    """How long every step took."""
    rows = tuple((_spaced(step), number(seconds, "seconds")) for step, seconds in report.seconds.items())
    return Table((Word("step"), Word("time")), rows)


def gate_sentence(protocol: Protocol) -> list[Word]:
    """What the gate found, and whether it was overridden."""
    gate = protocol.gate
    said = []
    if gate:
        values = {"metric": gate.metric, "teacher": number(gate.teacher), "baseline": number(gate.baseline)}
        said.append(say("gate_passed" if gate.passed else "gate_refused", **values, name=gate.baseline_name or MISSING))
    return [*said, Word("overridden")] if protocol.overridden else said


def leaves(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Text]]:
    """JSON values with the keys that lead to them, numbers and truth values written out."""
    for key, held in facts.items():
        name = f"{above}{key}"
        if isinstance(held, Mapping):
            yield from leaves(held, f"{name}, ")
        else:
            yield name, leaf(held)


def leaf(held: object) -> Text:
    """One JSON value as text."""
    if isinstance(held, bool):
        return Word("yes" if held else "no")
    if isinstance(held, int | float) or held is None:
        return number(held)
    if isinstance(held, list | tuple):
        pieces = [leaf(piece) for piece in held]
        return ", ".join(p if isinstance(p, str) else str(h) for p, h in zip(pieces, held, strict=True))
    return str(held)


def _spaced(key: str) -> str:
    return key.replace("_", " ")


MEANINGS = {key: f"means_{key}" for key in ("teacher", "student", "scratch", "trivial", *COMPARED)}


def title_of(report: Report) -> str:
    """What a run is called: its task, and its data where they have a name."""
    named = report.data.get("name")
    return f"{report.task} · {named}" if isinstance(named, str) else report.task


def batch_of(protocol: Protocol) -> str:
    """The batch that latencies were measured with."""
    held = sorted({row.latency_ms.batch for row in protocol.rows if row.latency_ms})
    return ", ".join(map(str, held)) or MISSING
