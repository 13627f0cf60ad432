"""An audit of one small run, as a user starts it."""

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbeck.cli import main
from limbeck.page import draw, markdown
from limbeck.report import Report
from limbeck.robustness import Robustness, Withstood

RECIPE = """\
task: classify_image
data: {path: pics/}
protocols:
  - {name: random, split: {kind: random, stratify: true}}
teacher: {model: picture_convolution, widths: [6, 6], allow_weak: true}
students:
  - {model: picture_convolution, name: small, widths: [3]}
objective:
  - {loss: kl}
training: {epochs: 3, batch_size: 16, learning_rate: 0.02}
seeds: [0, 1]
export: {precisions: [fp32]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("audit")
    draw = np.random.default_rng(0)
    for place, name in enumerate(("bottom", "top")):
        (folder / "pics" / name).mkdir(parents=True)
        for i in range(60):
            pixels = draw.integers(0, 160, (8, 8)).astype(np.uint8)
            pixels[4 * place : 4 * place + 3] += 40
            Image.fromarray(pixels).save(folder / "pics" / name / f"{i}.png")
    (folder / "shop.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        assert main(["run", "shop.yaml", "--quiet"]) == 0
        yield folder


def audited(made: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    capsys.readouterr()
    code = main(["audit", "runs/shop", "--robustness", "--json", "--radius", "0.03", "--radius", "0.01", *more])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.slow
def test_an_audit_goes_into_the_report_and_is_found_again(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Report.load(made / "runs/shop")
    found = audited(made, capsys, "--queries", "20")
    assert [(one["role"], one["name"]) for one in found["predictors"]] == [
        ("teacher", "picture_convolution"),
        ("student", "small"),
        ("scratch", "small"),
    ]
    assert (found["rows"], found["test_rows"], found["radii"]) == (12, 12, [0.01, 0.03])
    after = Report.load(made / "runs/shop")
    assert after.robustness is not None
    assert replace(after, robustness=None) == before
    for one in after.robustness.predictors:
        assert all(len(values) == 2 for values in one.attacks.values())
        assert all(len(values) == 3 for values in one.corruptions.values())
        weak, strong = one.attacks["pgd-20"], one.attacks["ensemble"]
        assert all(s <= w <= one.clean for s, w in zip(strong, weak, strict=True))
    for name in ("report.html", "report.md"):
        assert "ensemble" in (made / "runs/shop" / name).read_text()
    # Clean accuracy of the teacher is that of the table: all test rows are in the sample.
    teacher = next(row for row in after.protocols[0].rows if row.role == "teacher")
    assert after.robustness.predictors[0].clean == pytest.approx(teacher.metrics["accuracy"].mean)

    def fails(*_: Any) -> None:
        raise AssertionError("it is done already")

    flow = importlib.import_module("limbeck.audit")  # of that name the package has the function
    monkeypatch.setattr(flow, "withstands", fails)
    monkeypatch.setattr(flow, "right", fails)
    assert audited(made, capsys, "--queries", "20") == found
    # Writing the report anew loses the audit, which then costs nothing.
    assert main(["run", "shop.yaml", "--quiet"]) == 0
    assert Report.load(made / "runs/shop").robustness is None
    assert audited(made, capsys, "--queries", "20") == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "runs/shop"], "say what to audit: --robustness"),
        (["audit", "runs/other", "--robustness"], "limbeck run` writes it when a run is done"),
        (["audit", "runs/shop", "--robustness", "--radius", "8"], "8/255 is 0.0314"),
    ],
)
def test_what_cannot_be_audited_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def sample() -> Robustness:
    attacks = {"fgsm": (0.8, 0.5), "ensemble": (0.4, 0.0)}
    return Robustness(
        protocol="given",
        rows=500,
        test_rows=10_000,
        radii=(4 / 255, 8 / 255),
        severities=(1, 5),
        how={"fgsm": "one step", "ensemble": "all of them", "noise": "normal"},
        predictors=(
            Withstood(name="onnx", role="teacher", clean=0.93, corruptions={"noise": (0.9, 0.7)}, note="not attacked"),
            Withstood(name="small", role="student", clean=0.91, attacks=attacks, corruptions={"noise": (0.8, 0.6)}),
            Withstood(name="small", role="scratch", clean=0.9, attacks=attacks, corruptions={"noise": (0.8, 0.2)}),
        ),
    )


def test_the_page_and_markdown_hold_every_number_and_who_was_not_attacked() -> None:
    report = Report(task="classify_image", robustness=sample())
    page, text = draw(report), markdown(report)
    assert '<section id="robustness">' in page
    assert page.count('data-t="radius_of_255"') == 2, "one chart an attack"
    for said in (page, text):
        assert "4/255" in said
        assert "not attacked" in said
        assert "all of them" in said
    row = next(line for line in text.splitlines() if "onnx" in line and "not attacked" in line)
    assert row.count("–") == 4, "what was not measured is a dash"
    assert "0.9300" in row
    assert '<section id="robustness">' not in draw(Report(task="classify_image"))


def test_a_report_with_an_audit_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = Report(task="classify_image", robustness=sample())
    report.save(tmp_path)
    assert Report.load(tmp_path) == report
