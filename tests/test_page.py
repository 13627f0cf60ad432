"""The report as a page and as Markdown: complete, inert, self-contained, and usable in a browser."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.bounds import Budget
from limbeck.front import Candidate, Picked, Tuning, marked
from limbeck.page import compare_markdown, compare_page, draw, markdown, tuning_sentences
from limbeck.page.chart import Scale
from limbeck.page.number import MISSING, number
from limbeck.page.word import WORDS
from limbeck.picture import blank, thumbnail
from limbeck.report import (
    Artifact,
    Bin,
    Comparison,
    Curve,
    Gate,
    Latency,
    Metric,
    Protocol,
    Reliability,
    Report,
    Row,
    plain,
)
from limbeck.robustness import Robustness, Withstood

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\"><b>&amp;"
ARABIC = "حذاء رياضي أحمر مقاس ٤٢"
CHINESE = "红色跑步鞋,适合雨天,非常舒适"


def metrics(quality: float) -> dict[str, Metric]:
    def around(mean: float) -> Metric:
        return Metric(mean, mean * 0.0071, mean * 0.987, mean * 1.0119)

    return {"ndcg@10": around(quality), "recall@20": around(quality * 1.21), "mrr": around(quality * 1.457)}


def slices(quality: float) -> dict[str, dict[str, float | None]]:
    return {
        "head items": {"n": 7432, "ndcg@10": quality * 1.234},
        "tail items": {"n": 511, "ndcg@10": quality * 0.2718},
        "cold users": {"n": 38, "ndcg@10": math.nan if quality < 0.15 else quality * 0.6543},
        "خصومات": {"n": 126, "ndcg@10": quality * 0.777},
    }


def row(role: str, name: str, quality: float, size: int, p50: float, **more: Any) -> Row:
    return Row(
        role=role,
        name=name,
        metrics=metrics(quality),
        parameters=size // 4,
        bytes=size,
        latency_ms=Latency(1, p50, p50 * 1.83),
        rows_per_second=1234.5 / p50,
        train_seconds=more.pop("train_seconds", 41.7),
        slices=slices(quality),
        encode_ms=0.0123,
        **{"tuned": True, "precision": "fp32", **more},
    )


def curve(name: str, role: str, top: float, seed: int) -> Curve:
    epochs = tuple(float(e) for e in range(1, 25))
    rising = tuple(top * (1 - math.exp(-e / 5)) - 0.0001 * seed * e - (0.00004 * (e - 14) ** 2) for e in epochs)
    pace = 12 if role == "student" else 9.5
    terms = {"cross_entropy": tuple(6.2 * math.exp(-e / pace) + 1.1 for e in epochs)}
    if role == "student":
        terms["listwise_kl"] = tuple(2.4 * math.exp(-e / 6) + 0.21 for e in epochs)
    best = max(zip(rising, epochs, strict=True))[1]
    return Curve(name=name, role=role, seed=seed, x=epochs, terms=terms, validation=rising, best=best)


def reliability(name: str, role: str, lean: float) -> Reliability:
    bins = tuple(
        Bin(low=i / 10, high=(i + 1) / 10, n=900 - 70 * i, confidence=i / 10 + 0.05, accuracy=(i / 10 + 0.05) ** lean)
        for i in range(10)
    )
    return Reliability(name=name, role=role, bins=bins, ece=abs(lean - 1) * 0.0931)


def sample_protocol(name: str, shift: float, *, passed: bool = True) -> Protocol:
    rows = (
        row(
            "teacher",
            "ease",
            0.3372 - shift,
            11_316_496,
            4.213,
            teacher_kind="trained",
            train_seconds=2.31,
            precision=None,
        ),
        row("student", "mf-16", 0.3185 - shift, 170_112, 0.1931),
        row("scratch", "mf-16", 0.2931 - shift, 170_113, 0.1927),
        row("student", "mf-64", 0.3231 - shift, 672_384, 0.2411),
        row("student", "mf-64", 0.3217 - shift, 181_200, 0.1713, precision="int8"),
        row("scratch", "mf-64", 0.3024 - shift, 672_385, 0.2402, tuned=False),
        row("trivial", "popularity", 0.1005 - shift / 4, 6_728, 0.0213, tuned=None, note="counts | of <training> rows"),
        row("trivial", "item_knn", 0.2834 - shift, 5_120_000, 1.912, tuned=None),
        Row(role="trivial", name="last_value", metrics={"ndcg@10": Metric(math.nan, None)}),
    )
    compared = tuple(
        Comparison(
            student=student,
            scratch=student,
            difference=gain,
            low=gain - 0.0042,
            high=gain + 0.0039,
            p_value=p,
            retention=0.9451 + gain,
            lift_retention=0.9214,
            transfer_ratio=0.5762,
            agreement=0.6873,
        )
        for student, gain, p in (("mf-16", 0.0254, 0.00001), ("mf-64", 0.0031 - shift / 20, 0.1347))
    )
    return Protocol(
        name=name,
        n={"train": 80_000, "validation": 9_430, "test": 10_570},
        headline="ndcg@10",
        splits=(0, 1, 2),
        seeds=(0, 1, 2),
        rows=rows,
        comparisons=compared,
        curves=tuple(
            curve(student, role, top - 0.01, seed)
            for student, gain in (("mf-16", 0.0254), ("mf-64", 0.0207))
            for role, top in (("student", 0.318), ("scratch", 0.318 - gain))
            for seed in range(3)
        ),
        reliability=(
            reliability("ease", "teacher", 1.31),
            reliability("mf-16", "student", 1.12),
            reliability("mf-16", "scratch", 0.71),
        ),
        facts={"unlabelled": 4_217, "licence": "GroupLens, research", "counts": {"users": 943, "items": 1_682}},
        gate=Gate(
            passed=passed,
            metric="ndcg@10",
            teacher=0.3391 if passed else 0.2764,
            baseline=0.2871,
            baseline_name="item_knn",
        ),
        overridden=not passed,
    )


def sample_report() -> Report:
    return Report(
        task="recommend",
        data={"name": "ml-100k", "rows": 100_000, "privileged": ["rating", "dwell"], "deduplicated": True},
        threads=2,
        protocols=(sample_protocol("random-8-1-1", 0.0), sample_protocol("leave-last-out", 0.0611, passed=False)),
        artifacts=(
            Artifact(
                student="mf-16",
                path="artifact/mf-16",
                precision="fp32",
                parity={"rows": 512, "largest_difference": 2.3e-7, "agreement": 1.0, "ndcg@10": {"artifact": 0.31852}},
            ),
            Artifact(
                student="mf-64", path="artifact/mf-64", precision="int8", parity={"rows": 512, "agreement": 0.9921}
            ),
        ),
        verdict="mf-16 keeps 94.5% of its teacher's NDCG@10 at 1/66 of the size; taught, it beats its honest twin by "
        "0.0254, but teaching mf-64 did not help.",
        seconds={"teacher": 2.31, "label": 12.8, "distill": 754.2, "evaluate": 31.02, "export": 0.4127},
        robustness=sample_robustness(),
    )


def sample_robustness() -> Robustness:
    attacks = dict.fromkeys(("fgsm", "pgd-20", "ensemble"), (0.81, 0.52, 0.07))
    corruptions = dict.fromkeys(("noise", "brightness"), (0.9, 0.7, 0.4))
    return Robustness(
        protocol="random-8-1-1",
        rows=500,
        test_rows=10_000,
        radii=(2 / 255, 4 / 255, 8 / 255),
        severities=(1, 3, 5),
        how={"fgsm, pgd-20, ensemble": "steps along the sign of the gradient " * 4, "noise, brightness": "two"},
        predictors=(
            Withstood(name="a brought teacher of a long name", role="teacher", clean=0.93, note="not attacked"),
            Withstood(name="mf-16", role="student", clean=0.91, attacks=attacks, corruptions=corruptions),
            Withstood(name="mf-16", role="scratch", clean=0.9, attacks=attacks, corruptions=corruptions),
            Withstood(name="mf-64", role="student", clean=0.92, attacks=attacks, corruptions=corruptions),
        ),
    )


def sample_rows() -> list[dict[str, Any]]:
    texts = [HOSTILE, ARABIC, CHINESE, "a plain red shoe", "long " * 90]
    return [
        {
            "id": 1000 + i,
            "protocol": "random-8-1-1" if i % 3 else "leave-last-out",
            "row": {"user": f"u{i}", "history": [f"item {i}", texts[i % 5]], "text": texts[i % 5], HOSTILE: None},
            "truth": f"item {i % 7}" if i % 10 else None,
            "teacher": f"item {i % 7 if i % 4 else (i + 1) % 7}",
            "student": f"item {i % 7 if i % 5 else (i + 2) % 7}",
            "teacher_p": 0.31 + i / 100,
            "student_p": 0.92 - i / 90,
            "disagreement": round(abs(math.sin(i)), 4) if i != 17 else math.nan,
        }
        for i in range(50)
    ]


class Seen(HTMLParser):
    """What a browser would make of the page: its tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.unseen = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.unseen = tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self.unseen = False

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def said_by(report: Report) -> Iterator[str]:
    """Every name and number of a report that both drawings must hold."""
    yield from (report.task, report.verdict, number(report.threads))
    yield from (number(s, "seconds") for s in report.seconds.values())
    yield from ("100,000", "rating, dwell", "512", number(2.3e-7), number(0.31852), "artifact/mf-64")
    for protocol in report.protocols:
        yield from (protocol.name, *(number(n) for n in protocol.n.values()), "4,217", "GroupLens, research", "1,682")
        for r in protocol.rows:
            yield from (r.name, r.role, number(r.parameters, "count"), number(r.bytes, "bytes"))
            yield from (
                number(r.rows_per_second, "count"),
                number(r.train_seconds, "seconds"),
                number(r.encode_ms, "ms"),
            )
            if r.latency_ms:
                yield from (number(r.latency_ms.p50, "ms"), number(r.latency_ms.p95, "ms"))
            for name, metric in r.metrics.items():
                yield from (name, number(metric.mean), number(metric.low), number(metric.high))
                yield number(metric.sd, digits=2)
            for name, held in r.slices.items():
                yield from (name, number(held["n"], "count"), number(held["ndcg@10"]))
        for c in protocol.comparisons:
            yield from (number(v, "difference") for v in (c.difference, c.low, c.high))
            yield from (number(v, "percent") for v in (c.retention, c.lift_retention, c.agreement))
            yield from (number(c.transfer_ratio, digits=3), number(c.p_value, "p"))
        for one in protocol.reliability:
            yield number(one.ece)
            yield from (number(v) for b in one.bins for v in (b.confidence, b.accuracy))
        for c in protocol.curves:
            yield number(c.validation[int(c.best or 1) - 1])
        if protocol.gate:
            yield from (number(protocol.gate.teacher), number(protocol.gate.baseline))


def test_the_page_says_every_name_and_number_of_the_report() -> None:
    text = Seen(draw(sample_report())).text
    assert [said for said in said_by(sample_report()) if said not in text] == []


def test_the_markdown_says_every_name_and_number_of_the_report() -> None:
    text = unescape(markdown(sample_report())).replace("\\", "")
    assert [said for said in said_by(sample_report()) if said not in text] == []


def test_every_markdown_table_has_as_many_cells_in_every_line() -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", markdown(sample_report()), flags=re.M)
    assert len(blocks) > 10
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_refused_gate_is_said_at_the_top_and_an_honoured_one_is_not() -> None:
    text = Seen(draw(sample_report())).text
    assert text.count("The run was told to go on.") == 1
    assert "The run was told to go on." in markdown(sample_report())
    alone = Report(task="t", protocols=(sample_protocol("p", 0.0),))
    assert "told to go on" not in Seen(draw(alone)).text
    assert 'class="warning"' not in draw(alone)


def test_what_was_not_measured_prints_as_a_dash() -> None:
    empty = Report(task="t", protocols=(Protocol(name="p", headline="auc", rows=(Row(role="student", name="s"),)),))
    bare = Report(task="t", protocols=(Protocol(name="p", headline="auc"),))
    for report in (empty, bare, Report(task="t")):
        for drawn in (draw(report, []), markdown(report), compare_page({"a": report}), compare_markdown({"a": report})):
            assert "nan" not in drawn.lower().replace("finance", "")
            assert "None" not in drawn
    assert MISSING in markdown(empty)


def test_hostile_text_stays_text_wherever_it_stands() -> None:
    rows = (row("student", HOSTILE, 0.3, 4_000, 0.2, note=HOSTILE), row("scratch", HOSTILE, 0.2, 4_000, 0.2))
    protocol = Protocol(
        name=HOSTILE,
        headline="ndcg@10",
        rows=rows,
        comparisons=(Comparison(student=HOSTILE, scratch=HOSTILE, difference=0.1, low=0.0, high=0.2),),
        curves=(curve(HOSTILE, "student", 0.3, 0),),
        reliability=(reliability(HOSTILE, "student", 1.2),),
        facts={HOSTILE: HOSTILE},
        gate=Gate(passed=True, metric=HOSTILE, baseline_name=HOSTILE),
    )
    artifact = Artifact(student=HOSTILE, path=HOSTILE, precision="fp32", parity={HOSTILE: HOSTILE})
    report = Report(task=HOSTILE, data={"name": HOSTILE}, protocols=(protocol,), artifacts=(artifact,), verdict=HOSTILE)
    for page in (draw(report, sample_rows()), compare_page({HOSTILE: report})):
        seen = Seen(page)
        assert not [tag for tag, held in seen.tags if tag == "img" or any(name.startswith("on") for name in held)]
        assert [tag for tag, _ in seen.tags].count("script") == 3
        assert HOSTILE in seen.text
    assert "<img" not in markdown(report) + compare_markdown({HOSTILE: report})


def test_rows_of_data_are_in_the_page_only_when_given_and_never_in_markdown() -> None:
    report = sample_report()
    assert 'id="row-list"' not in draw(report)
    assert CHINESE not in draw(report) + markdown(report)
    assert CHINESE in draw(report, sample_rows())


def test_the_page_is_one_small_file_that_asks_for_nothing() -> None:
    page = draw(sample_report())
    assert len(page.encode()) < 300_000
    for tag, held in Seen(page).tags:
        assert tag not in {"iframe", "object", "embed", "base"}
        for name in ("src", "href", "action", "srcset"):
            assert (held.get(name) or "#").startswith(("#", "data:,"))
    assert "url(" not in page
    assert "@import" not in page


def test_links_within_the_page_lead_somewhere() -> None:
    for page in (draw(sample_report(), sample_rows()), compare_page({"a": sample_report()})):
        tags = Seen(page).tags
        known = [held["id"] for _, held in tags if held.get("id")]
        assert len(known) == len(set(known))
        assert {held["href"].removeprefix("#") for tag, held in tags if tag == "a" and held["href"]} <= set(known)


def tuning(
    role: Any = "student", best: float | None = None, lean: float | None = None, p_value: float = 0.0123, **more: Any
) -> Tuning:
    """A search of three files, and by how much the picked ones are better than the student as given."""
    files = [
        Candidate(trial=i, value=v, bytes=b, parameters=b // 4)
        for i, v, b in ((0, 0.3, 80), (7, 0.28, 31), (9, 0.2, 90))
    ]
    budget = Budget(bytes=85)
    picks = [
        None if gain is None else Picked(name=name, candidate=files[0], difference=gain, p_value=p_value)
        for name, gain in (("mf-tuned", best), ("mf-lean", lean))
    ]
    told = {"candidates": marked(files, ["bytes"], budget, 1.0), "given": files[1], "budget": budget.limits}
    return Tuning(
        student="mf", role=role, trials=31, pruned=11, failed=2, best=picks[0], lean=picks[1], **{**told, **more}
    )


def searched() -> Report:
    """A search of every outcome."""
    rows = tuple(
        Row(role="student", name=n, metrics=metrics(q)) for n, q in (("mf", 0.3), ("mf-tuned", 0.33), ("mf-lean", 0.31))
    )
    tunings = (
        tuning(best=0.03, lean=0.01),
        tuning("scratch"),
        tuning(best=0.03, lean=-0.01, budget={}),
        tuning(best=0.03, lean=0.01, p_value=0.94),
        tuning(best=0.03),
        tuning(),
    )
    return Report(task="t", protocols=(Protocol(name="p", headline="ndcg@10", rows=rows, tunings=tunings),))


def test_what_a_search_found_is_said_plainly_whatever_it_was() -> None:
    protocol = searched().protocols[0]
    said = [sentence.say() for sentence in tuning_sentences(protocol)]
    assert len(said) == 9, "two for each student, and one where nothing fits"
    assert said[0].startswith(
        "mf was searched for in 31 trials, its twin in 31. The best within the budget (size ≤ 85 B)"
    )
    assert "is mf-tuned, 80 B as fp32: ndcg@10 0.3300 on test rows, 0.3000 as given (p 0.012)" in said[0]
    assert said[1].startswith("mf-lean is no larger than mf as given (80 B, 31 B) and better on test rows")
    assert "(no limit)" in said[2]
    assert "found none that is no larger than mf as given (31 B) and better" in said[3]
    assert "no larger than mf as given (80 B, 31 B) and no worse, though not proven better, on test rows" in said[5]
    assert "found none that is no larger than mf as given (31 B) and keeps to the budget" in said[7]
    assert said[8] == "The search found none: no file of the 31 trials of mf keeps to the budget (size ≤ 85 B)."
    page, text = Seen(draw(searched())).text, unescape(markdown(searched())).replace("\\", "")
    for drawn in (page, text):
        assert all(sentence in drawn for sentence in said)
        for name in ("What the search found", "given up early", "11", "31 B", "within the budget"):
            assert name in drawn
    assert "90 B" not in page, "beaten by the first, so not on the front"
    assert "The front: validation rows, against size" in page


def test_every_chart_has_a_name_and_a_description() -> None:
    page = draw(sample_report())
    charts = re.findall(r'<svg[^>]*class="chart"[^>]*><title>([^<]+)</title><desc>([^<]+)</desc>', page)
    assert len(charts) == page.count('class="chart"') > 10


def test_every_word_is_said_in_both_languages_with_the_same_places() -> None:
    for key, (english, chinese) in WORDS.items():
        assert english, key
        assert chinese, key
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), key
    page = draw(sample_report(), sample_rows()) + compare_page({"a": sample_report()}) + draw(searched())
    page += draw(first_run()) + draw(first_run(bytes=2_000, latency_ms=Latency(1, 3.0, 4.0)))
    script = Path(compare_page.__code__.co_filename).with_name("page.js").read_text(encoding="utf-8")
    said = set(re.findall(r'data-t(?:-label)?="(\w+)"', page)) | set(re.findall(r'"(\w+)"', script))
    nested = set(re.findall(r"\[&quot;(\w+)&quot;\]", page))
    unsaid = set(WORDS) - said - nested
    # These are said only of reports that differ from the samples, and one in Markdown alone.
    unlike = {"lower", "no", "tradeoffs_note_lower", "scratch_better_right", "student_better_left"}
    unlike |= {"kept_above", "unsteady"}
    assert unsaid <= unlike | {"cost"}


def first_run(**costs: Any) -> Report:
    """A student of a small teacher, whose training also told the lengths of gradients."""
    terms = {"hard": (0.9, 0.5), "loss": (1.7, 0.8), "kl": (0.8, 0.3)}
    lengths = {"gradient_norm": (7.25, 3.5), "gradient_norm.hard": (2.0, 1.5), "gradient_norm.kl": (6.0, 2.75)}
    twin = {"hard": (0.9, 0.6), "loss": (0.9, 0.6), "gradient_norm": (2.0, 1.625)}
    slices = {
        "short": {"n": 40, "auc": 0.71, "accuracy": 0.61},
        "label up": {"n": 60, "auc": None, "accuracy": 0.62},
    }
    seen = {"bytes": 1_000, "latency_ms": Latency(1, 1.0, 2.0), "slices": slices}
    rows = (
        Row(role="teacher", name="big", metrics={"auc": Metric(0.9, 0.0)}, **seen),
        Row(role="student", name="tiny", metrics={"auc": Metric(0.8, 1e-17)}, **{**seen, **costs}),
    )
    curves = (
        Curve(name="tiny", role="student", x=(1, 2), terms={**terms, **lengths}, validation=(0.7, 0.8), best=2),
        Curve(name="tiny", role="scratch", x=(1, 2), terms=twin, validation=(0.6, 0.7), best=2),
    )
    protocol = Protocol(name="p", headline="auc", rows=rows, curves=curves)
    return Report(task="t", protocols=(protocol,), verdict="tiny keeps much (p < .001). But look at the baseline.")


@pytest.mark.parametrize(
    ("costs", "size", "speed"),
    [
        ({"bytes": 1_250, "latency_ms": Latency(1, 1.2, 2.0)}, "1.25× larger", "1.20× slower"),
        ({"bytes": 500, "latency_ms": Latency(1, 0.25, 2.0)}, "2.00× smaller", "4.00× faster"),
        ({"bytes": 1_001, "latency_ms": Latency(1, 1.001, 2.0)}, "1.00× as large", "1.00× as fast"),
    ],
)
def test_a_student_that_costs_more_is_said_to(costs: dict[str, Any], size: str, speed: str) -> None:
    page = draw(first_run(**costs))
    assert size in Seen(page).text
    assert speed in Seen(page).text
    assert f"Beside the teacher, tiny is {size} and {speed}." in markdown(first_run(**costs))


def test_what_a_student_costs_is_a_dash_where_it_is_not_known() -> None:
    report = first_run(bytes=None)
    assert "Beside the teacher" not in markdown(report)
    tile = re.search(r"<div class=\"tile\"><dt><span[^>]*>size.*?</div>", draw(report))
    assert tile is not None
    assert MISSING in tile[0]


def test_lengths_of_gradients_have_charts_of_their_own_that_open_on_demand() -> None:
    page = draw(first_run())
    described = dict(re.findall(r"<title>([^<]+)</title><desc>([^<]+)</desc>", page))
    assert described["tiny · terms of the loss"] == (
        "hard: 0.9000 to 0.5000; loss: 1.700 to 0.8000; kl: 0.8000 to 0.3000; hard scratch: 0.9000 to 0.6000"
    )
    assert described["tiny · lengths of gradients"] == (
        "loss: 7.250 to 3.500; hard: 2.000 to 1.500; kl: 6.000 to 2.750; loss scratch: 2.000 to 1.625"
    )
    behind = page[page.index(">Lengths of gradients<") :]
    assert page[: -len(behind)].rstrip().endswith('<details><summary><span data-t="gradients_title"')
    assert behind.index("tiny · lengths of gradients") < behind.index("</details>")
    told = next(line for line in markdown(first_run()).splitlines() if line.startswith("| tiny, student | 0 |"))
    assert told.endswith("| hard 0.5000, loss 0.8000, kl 0.3000 | loss 3.500, hard 1.500, kl 2.750 |")
    assert "Lengths of gradients" not in Seen(draw(sample_report())).text, "nothing was told of them"


def test_no_margin_is_shown_where_nothing_varied() -> None:
    for drawn in (draw(first_run()), markdown(first_run())):
        assert "± 0" not in drawn
        assert "e-17" not in drawn


def test_what_is_kept_of_a_metric_with_a_chance_level_is_counted_from_there() -> None:
    plain = sample_protocol("p", 0.0)
    tile = r"<div class=\"tile\"><dt><span[^>]*>kept of the teacher.*?</div>"
    for chance, said in ((None, "94.8% lift kept: 92.1%"), (0.5, "92.1% of what is above chance, 0.5")):
        found = re.search(tile, draw(Report(task="t", protocols=(replace(plain, chance=chance),))))
        assert found is not None
        assert Seen(found[0]).text.endswith(said)


def test_runs_by_a_metric_with_a_chance_level_are_compared_by_what_lies_above_it() -> None:
    held = replace(sample_protocol("p", 0.0), chance=0.5)
    said = compare_markdown({"a": Report(task="t", protocols=(held,))})
    assert "| lift retention |" in said
    assert "| 92.1% |" in said
    assert "| retention |" not in said


def test_latencies_of_a_busy_machine_are_not_to_be_relied_on() -> None:
    busy = first_run(latency_ms=Latency(1, 0.25, 2.0))
    for drawn in (Seen(draw(busy)).text, markdown(busy)):
        assert "Latencies are not to be relied on: p95 is up to 8.00× p50 (tiny)" in drawn
    quiet = first_run(latency_ms=Latency(1, 0.25, 0.75))
    for drawn in (Seen(draw(quiet)).text, markdown(quiet)):
        assert "relied on" not in drawn


def test_slices_begin_with_the_headline_and_leave_out_what_it_cannot_tell() -> None:
    page = draw(first_run())
    first, more = page.split(">Slices by other metrics<")
    assert "auc per group of test rows." in first
    assert "label up" not in first
    assert "accuracy per group of test rows." in more
    assert "label up" in more
    said = markdown(first_run())
    assert said.index("### Slices: auc") < said.index("### Slices: accuracy") < said.index("label up")


def test_every_table_stands_in_a_region_with_a_name_in_both_languages() -> None:
    for page in (draw(sample_report()), compare_page({"a": sample_report()}), draw(searched())):
        tags = Seen(page).tags
        boxes = [held for tag, held in tags if tag == "div" and "scroll" in (held.get("class") or "").split()]
        assert len(boxes) == sum(tag == "table" for tag, _ in tags) > 0
        for held in boxes:
            assert (held["role"], held["tabindex"]) == ("region", "0")
            assert held["aria-label"]
            assert held["data-t-label"] in WORDS


def test_the_first_sentence_of_the_verdict_is_the_headline() -> None:
    page = draw(first_run())
    assert '<p class="verdict" lang="en" dir="auto">tiny keeps much (p &lt; .001).</p>' in page
    assert ">But look at the baseline.</p>" in page


def test_epochs_are_counted_in_whole_numbers() -> None:
    assert Scale(1, 3, 0, 100, whole=True).ticks() == [1.0, 2.0, 3.0]
    assert Scale(1, 24, 0, 100, whole=True).ticks() == [5.0, 10.0, 15.0, 20.0]


def test_errors_count_as_better_when_lower() -> None:
    rows = tuple(
        Row(role="student", name=n, metrics={"mae": Metric(v)}, bytes=b, latency_ms=Latency(1, b / 1e4, b / 1e4))
        for n, v, b in (("good", 0.4, 5000), ("bad", 0.9, 4000))
    )
    protocol = Protocol(
        name="p",
        headline="mae",
        higher_is_better=False,
        rows=rows,
        comparisons=(Comparison(student="good", scratch="good", difference=-0.1, low=-0.2, high=-0.05),),
    )
    page = draw(Report(task="t", protocols=(protocol,)))
    assert "◂ student better" in Seen(page).texts
    tile = re.search(r'<div class="tile student">.*?</div>', page)
    assert tile is not None
    assert "good" in tile[0]
    table = compare_markdown({"run": Report(task="t", protocols=(protocol,))})
    assert "**0.4000**" in table
    assert "**4.00 KB**" in table
    assert "**400 µs**" in table
    assert "0.9000**" not in table


def test_runs_on_the_same_question_share_a_table_and_only_the_best_student_is_marked() -> None:
    reports = {"first": sample_report(), "second": sample_report(), "other": Report(task="ctr", verdict="No.")}
    text = compare_markdown(reports)
    assert text.count("\n## ") == 2
    assert text.count(f"**{number(0.3231)} ± {number(0.3231 * 0.0071, digits=2)}**") == 1
    assert f"**{number(0.3372)}" not in text
    page = compare_page(reports)
    assert page.count('class="star"') == 6
    for name in reports:
        assert name in Seen(page).text


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0, "plain", "0"),
        (1682, "plain", "1,682"),
        (0.31849, "plain", "0.3185"),
        (0.04312, "plain", "0.0431"),
        (0.00012345, "plain", "0.0001234"),
        (2.3e-7, "plain", "2.30e-7"),
        (12345.6, "plain", "12,346"),
        (-0.5, "plain", "−0.5000"),
        (0.0, "difference", "0"),
        (0.0254, "difference", "+0.0254"),
        (9_999, "count", "9,999"),
        (80_000, "count", "80.0k"),
        (999_999, "count", "1.00M"),
        (812, "bytes", "812 B"),
        (172_000, "bytes", "172 KB"),
        (11_316_496, "bytes", "11.3 MB"),
        (0.0123, "ms", "12.3 µs"),
        (4.213, "ms", "4.21 ms"),
        (2500.0, "ms", "2.50 s"),
        (0.4127, "seconds", "413 ms"),
        (41.7, "seconds", "41.7 s"),
        (59.99, "seconds", "1 min 0 s"),
        (754.2, "seconds", "12 min 34 s"),
        (8000.0, "seconds", "2 h 13 min"),
        (0.925, "percent", "92.5%"),
        (66.52, "ratio", "66.5×"),
        (0.00001, "p", "< 0.0001"),
        (0.1347, "p", "0.13"),
        (math.nan, "bytes", MISSING),
        (-math.inf, "difference", MISSING),
        (None, "ms", MISSING),
    ],
)
def test_numbers_are_written_for_people(value: float | None, unit: Any, said: str) -> None:
    assert number(value, unit) == said


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["plain", "count", "bytes", "ms", "seconds", "ratio"]),
)
def test_any_float_can_be_written_and_its_sign_is_kept(value: float, unit: Any) -> None:
    said = number(value, unit)
    assert said == MISSING if not math.isfinite(value) else said.startswith("−") == (value < 0)


@given(
    st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=5),
    st.booleans(),
)
def test_a_scale_holds_its_values_and_its_ticks(values: list[float], log: bool) -> None:
    scale = Scale.around([*values, values[0] * (1 + 1e-16), values[0] * (1 + 3e-16)], 40, 400, log=log)
    places = [scale(v) for v in values]
    assert all(40 <= place <= 400 for place in places)
    assert [p for _, p in sorted(zip(values, places, strict=True))] == sorted(places)
    ticks = scale.ticks()
    assert ticks == sorted(ticks)
    assert len(ticks) <= 12
    assert all(39.9 <= scale(tick) <= 400.1 for tick in ticks)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser without a network; its absence is a failure, since `make setup` brings it."""
    found = shutil.which("chromium")
    if found is None:
        pytest.fail("no chromium on the path; install it: make browser")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


class Watched:
    """A page opened from file://, with everything it complained of or asked for."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str = "light", locale: str = "en-US") -> None:
        height = 900 if width > 500 else 844
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale)
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda wrong: self.complaints.append(str(wrong)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.file = file

    def shown(self) -> list[str]:
        return self.page.locator("#row-list > li > .top > span:first-child").all_inner_texts()

    def status(self) -> str:
        return str(self.page.inner_text("#row-status"))

    def assert_quiet(self) -> None:
        assert self.complaints == []
        assert [url for url in self.asked if url != self.file.as_uri() and not url.startswith("data:")] == []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(draw(sample_report(), sample_rows()), encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_is_quiet(chromium: Any, file: Path, width: int, scheme: str) -> None:
    pages = {"report": file, "compare": file.with_name("compare.html")}
    pages["compare"].write_text(compare_page({"first": sample_report(), "second": sample_report()}), encoding="utf-8")
    for name, opened in pages.items():
        watched = Watched(chromium, opened, width, scheme)
        watched.page.evaluate("for (const held of document.querySelectorAll('details')) held.open = true")
        for language in ("中文", "English"):
            watched.page.get_by_role("button", name=language).click()
            assert watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert watched.page.title() != "taken"
        watched.page.screenshot(path=file.with_name(f"{name}-{width}-{scheme}.png"), full_page=True)
        watched.assert_quiet()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_no_figure_of_a_tile_breaks_and_first_columns_stay_while_a_table_scrolls(
    chromium: Any, file: Path, width: int
) -> None:
    page = Watched(chromium, file, width).page
    page.evaluate("for (const held of document.querySelectorAll('details')) held.open = true")
    broken = """[...document.querySelectorAll('.figure b')].filter((b) =>
        b.getClientRects().length > 1 || b.scrollWidth > b.closest('.tile').clientWidth)"""
    assert page.evaluate(f"{broken}.length") == 0
    moved = """[...document.querySelectorAll('.scroll')].filter((box) => {
        box.scrollLeft = 1e6;
        if (!box.scrollLeft) return false;
        const first = box.querySelector('tbody tr').firstElementChild.getBoundingClientRect();
        return first.left < box.getBoundingClientRect().left || first.width < 90 || first.width > box.clientWidth / 2;
    }).length"""
    assert page.evaluate(moved) == 0
    scrolled = page.evaluate("[...document.querySelectorAll('.scroll')].filter((box) => box.scrollLeft > 0).length")
    assert scrolled > 0 or width > 1000


@pytest.mark.slow
def test_a_picture_is_seen_and_only_the_pages_own_kind_of_address_becomes_one(chromium: Any, tmp_path: Path) -> None:
    rows = sample_rows()[:2]
    rows[0]["row"] = {"picture": thumbnail(blank())}
    rows[1]["row"] = {"picture": "data:image/svg+xml;base64,PHN2Zz48L3N2Zz4="}
    file = tmp_path / "report.html"
    file.write_text(draw(sample_report(), rows), encoding="utf-8")
    watched = Watched(chromium, file, 390)
    assert watched.page.evaluate("[...document.querySelectorAll('#row-list img')].map((i) => i.naturalWidth)") == [1]
    assert "svg+xml" in watched.page.inner_text("#row-list")
    watched.assert_quiet()


@pytest.mark.slow
def test_text_keeps_its_contrast_in_both_schemes(chromium: Any, file: Path) -> None:
    colours = ["ink", "soft", "teacher", "student", "scratch"]
    for scheme in ("light", "dark"):
        page = Watched(chromium, file, 1280, scheme).page
        read = "name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
        for ground in ("paper", "ground"):
            behind = luminance(page.evaluate(read, ground))
            for name in colours:
                light, dark = sorted((luminance(page.evaluate(read, name)), behind), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ground, name)


def luminance(colour: str) -> float:
    """WCAG 2: relative luminance of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.slow
def test_rows_are_searched_filtered_and_sorted(chromium: Any, file: Path) -> None:
    watched = Watched(chromium, file, 1280)
    page, rows = watched.page, plain(sample_rows())
    largest = sorted(rows, key=lambda r: -(r["disagreement"] if r["disagreement"] is not None else -1))
    assert watched.shown() == [f"#{r['id']}" for r in largest[:10]]

    page.fill("#row-search", ARABIC.split(maxsplit=1)[0])
    arabic = [r for r in largest if ARABIC in r["row"]["text"]]
    assert watched.shown() == [f"#{r['id']}" for r in arabic]
    page.fill("#row-search", "no such row anywhere")
    assert watched.shown() == []
    page.fill("#row-search", "")

    page.select_option("#row-show", "lost")
    lost = [r for r in largest if r["truth"] is not None and r["teacher"] == r["truth"] != r["student"]]
    assert watched.status().startswith(f"{len(lost)} of 50 rows")
    page.select_option("#row-show", "all")
    page.select_option("#row-protocol", "leave-last-out")
    assert watched.status().startswith(f"{sum(r['protocol'] == 'leave-last-out' for r in rows)} of 50 rows")
    page.select_option("#row-protocol", "")

    page.select_option("#row-sort", "id")
    page.click("#row-order")
    assert watched.shown()[:2] == ["#1000", "#1001"]
    watched.assert_quiet()


@pytest.mark.slow
def test_hostile_rows_are_shown_as_they_are_and_do_nothing(chromium: Any, file: Path) -> None:
    watched = Watched(chromium, file, 390)
    watched.page.fill("#row-search", "onerror")
    watched.page.select_option("#row-sort", "id")
    watched.page.click("#row-order")
    first = watched.page.locator("#row-list > li").first
    assert HOSTILE in first.locator("bdi").all_inner_texts()
    assert watched.page.locator("#row-list img, #row-list script, #row-list b").count() == 0
    assert watched.page.title() != "taken"
    watched.assert_quiet()


@pytest.mark.slow
def test_rows_are_read_by_keyboard_alone(chromium: Any, file: Path) -> None:
    watched = Watched(chromium, file, 1280)
    keyboard = watched.page.keyboard

    def tab_to(wanted: str) -> None:
        for _ in range(80):
            keyboard.press("Tab")
            if watched.page.evaluate("document.activeElement.id") == wanted:
                return
        pytest.fail(f"Tab never reaches {wanted}")

    tab_to("row-search")
    keyboard.type("plain red")
    assert watched.status().startswith("10 of 50 rows")
    for _ in "plain red":
        keyboard.press("Backspace")
    first = watched.shown()
    tab_to("row-list")
    keyboard.press("ArrowRight")
    second = watched.shown()
    assert not set(first) & set(second)
    assert "page 2 of 5" in watched.status()
    keyboard.press("End")
    assert "page 5 of 5" in watched.status()
    keyboard.press("Home")
    assert watched.shown() == first
    tab_to("row-next")
    keyboard.press("Enter")
    assert watched.shown() == second
    watched.assert_quiet()


@pytest.mark.slow
def test_the_page_changes_its_language_and_back(chromium: Any, file: Path) -> None:
    watched = Watched(chromium, file, 1280)
    page = watched.page
    before = page.inner_text("main")
    page.get_by_role("button", name="中文").click()
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert WORDS["rows"][1] in page.inner_text("main")
    assert "50 行" in watched.status()
    page.get_by_role("button", name="English").click()
    assert page.inner_text("main") == before
    chinese = Watched(chromium, file, 1280, locale="zh-CN").page
    assert chinese.evaluate("document.documentElement.lang") == "zh"
