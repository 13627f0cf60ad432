"""The search for the best student within a budget, on a shop of thirty customers."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from limbeck import leave as leaving
from limbeck import teach as teaching
from limbeck.artifact import Artifact
from limbeck.bounds import Range
from limbeck.check import check
from limbeck.cli import main
from limbeck.errors import Diverged, ParityRefused, UserError
from limbeck.forgetting import forget
from limbeck.front import Tuning
from limbeck.leave import Left
from limbeck.measure import Speed
from limbeck.outcome import Outcome
from limbeck.page import draw, markdown
from limbeck.recipe import parse
from limbeck.report import Report
from limbeck.run import flow_of, run
from limbeck.search import Search
from limbeck.tune import tune

tuning = importlib.import_module("limbeck.tune")  # the package's own `tune` is the function

RECIPE = """
task: recommend
data: {path: purchases.csv, roles: {user: who, item: what, time: when}}
protocols:
  - {name: random, split: {kind: user_random, shares: [6, 2, 2]}, splits: [0, 1]}
  - {name: last, split: {kind: leave_last_out}}
teacher: {model: ease, l2: 10.0}
students:
  - model: matrix_factorisation
    name: mf
    width: 4
    choose: {dropout: [0.0, 0.3]}
    tune:
      width: {low: 2, high: 12, log: true}
      training.learning_rate: {low: 0.005, high: 0.2, log: true}
      objective.0.weight: {low: 0.1, high: 1.0}
      objective.1.temperature: {low: 0.05, high: 1.0, log: true}
objective: [{loss: hard, weight: 0.3}, {loss: listwise_kl, temperature: 0.2}]
training: {epochs: 6, batch_size: 32, learning_rate: 0.05, check_every: 2}
seeds: [4, 7]
export: {precisions: [fp32]}
tune: {trials: 4, budget: {bytes: 100000, p95_ms: 1.0}}
"""
QUICK = Speed(p50_ms=0.1, p95_ms=0.2, rows_per_second=1e4, encode_ms=None, encode_share=None, calls=5)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Customers of three tastes."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    rows = []
    for user in range(30):
        mine = draw.permutation(20)[:10] + 20 * (user % 3)
        rows += [(f"u{user}", f"i{item}", int(draw.integers(10**6))) for item in mine]
    table = pa.table(dict(zip(("who", "what", "when"), map(list, zip(*rows, strict=True)), strict=True)))
    csv.write_csv(table, tmp_path / "purchases.csv")
    return tmp_path


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without exports: a file has four bytes a parameter and judges as its student."""

    def measured(desk: Any, lived: Any, *_: Any) -> Left:
        parity = {"fp32": {"headline": lived.validation, "bytes": 4 * lived.model.parameters}}
        return Left(lived, lived.folder, parity, {"fp32": QUICK})

    monkeypatch.setattr(tuning, "measured", measured)


@pytest.fixture
def found(
    shop: Path, unmeasured: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Tuning, Tuning, Outcome]]:
    """A search as far as its outcome: of the student, of its twin, and who was judged on test rows."""

    def search(recipe: str = RECIPE, out: str = "out") -> tuple[Tuning, Tuning, Outcome]:
        kept: list[Outcome] = []
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "reported", lambda desk, bound, outcomes, out: kept.extend(outcomes))
            tune(parse(recipe)[0], base=shop, out=shop / out)
        return (*kept[0].tunings, kept[0])  # type: ignore[return-value]

    return search


def test_a_search_ends_in_a_report_and_artifacts_within_the_budget(
    shop: Path, unmeasured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "speed_of", lambda predictor, rows: QUICK)
    report = tune(parse(RECIPE.replace("trials: 4", "trials: 2"))[0], base=shop, out=shop / "out")
    student, _ = report.protocols[0].tunings
    assert student.best is not None
    assert student.given is not None
    name = student.best.name
    rows = [(row.role, row.name) for row in report.protocols[0].rows]
    assert {("student", "mf"), ("scratch", "mf"), ("student", name), ("scratch", name)} <= set(rows)
    row = next(r for r in report.protocols[0].rows if (r.role, r.name) == ("student", name))
    assert row.tuned
    assert row.parameters == student.best.candidate.parameters
    place = next(one.path for one in report.artifacts if one.student == name)
    model = shop / "out" / place / "model.onnx"
    assert Artifact.open(model.parent).contract.precisions == ("fp32",)
    assert model.stat().st_size == row.bytes
    given = next(r for r in report.protocols[0].rows if (r.role, r.name) == ("student", "mf"))
    headline = report.protocols[0].headline
    apart = float(row.metrics[headline].mean or 0) - float(given.metrics[headline].mean or 0)
    assert student.best.difference == pytest.approx(apart)
    assert "was searched for in 2 trials, its twin in 2" in report.verdict
    page = draw(report)
    assert "What the search found" in page
    assert all(sentence in markdown(report) for sentence in ("within the budget", "given up early"))
    assert len(report.protocols) == 1
    assert (shop / "out" / "tune.db").exists()


def test_an_export_of_a_search_brings_back_what_it_found_and_keeps_its_report(
    shop: Path, unmeasured: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaving, "speed_of", lambda predictor, rows: QUICK)
    out, recipe = shop / "out", RECIPE.replace("trials: 4", "trials: 2")
    (shop / "shop.yaml").write_text(recipe)
    report = tune(parse(recipe)[0], base=shop, out=out)
    paths = sorted({one.path for one in report.artifacts})
    for path in paths:
        shutil.rmtree(out / path)
    assert main(["export", str(out), "--json"]) == 0
    assert sorted({one["path"] for one in json.loads(capsys.readouterr().out)}) == [str(out / path) for path in paths]
    again = Report.load(out)
    assert (again.verdict, again.protocols[0].tunings) == (report.verdict, report.protocols[0].tunings)
    assert main(["run", str(shop / "shop.yaml"), "--out", str(out)]) == 2
    assert "holds what `limbeck tune` made" in capsys.readouterr().err
    assert main(["distill", str(shop / "shop.yaml"), "--out", str(out), "--json"]) == 0
    assert Report.load(out).verdict == report.verdict
    assert flow_of(out) == "tune", "steps by themselves make no report"


def test_a_search_done_again_holds_nothing_of_a_person_who_was_forgotten(
    shop: Path, unmeasured: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaving, "speed_of", lambda predictor, rows: QUICK)
    out = shop / "out"
    tune(parse(RECIPE.replace("trials: 4", "trials: 2"))[0], base=shop, out=out)
    older = out / "artifact" / "of-an-older-search"
    shutil.copytree(out / "artifact" / "mf", older)
    named = forget("u7", shop / "nowhere")
    assert older in named.artifacts
    assert named.again == (out.resolve(),)
    assert main(["export", str(out), "--quiet"]) == 0
    left = forget("u7", shop / "nowhere")
    assert (left.artifacts, left.shown, left.again) == ((), (), ())
    assert not older.exists()
    assert Artifact.open(out / "artifact" / "mf").contract.task == "recommend"
    assert Report.load(out).protocols[0].tunings


def test_a_search_that_finds_the_student_as_given_exports_it_once(
    shop: Path, unmeasured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "speed_of", lambda predictor, rows: QUICK)
    # The only trial of all is the student as given.
    report = tune(parse(RECIPE.replace("trials: 4", "trials: 1"))[0], base=shop, out=shop / "out")
    (best,) = {tuning.best.name for tuning in report.protocols[0].tunings if tuning.best}
    assert best == "mf-tuned"
    assert [(one.student, one.path) for one in report.artifacts] == [("mf", "artifact/mf"), (best, "artifact/mf")]
    assert [place.name for place in (shop / "out" / "artifact").iterdir()] == ["mf"]
    sizes = {row.name: row.bytes for row in report.protocols[0].rows if row.role == "student"}
    assert sizes["mf"] == sizes[best]


def test_student_and_twin_get_as_many_trials_of_the_same_space_less_the_teachers_terms(
    found: Callable[..., tuple[Tuning, Tuning, Outcome]],
) -> None:
    student, twin, outcome = found()
    assert (student.role, twin.role) == ("student", "scratch")
    assert student.trials == twin.trials == 4
    assert student.trials == len(student.candidates) + student.pruned + student.failed
    shared = {"width", "training.learning_rate", "dropout"}
    assert {key for one in twin.candidates for key in one.settings} == shared
    assert {key for one in student.candidates for key in one.settings} == shared | {
        "objective.0.weight",
        "objective.1.temperature",
    }
    assert student.best is not None
    assert outcome.entry("scratch", student.best.name).lived[0].chosen.keys() == shared
    assert len(outcome.entry("student", student.best.name).lived) == 2, "both seeds"
    first = student.candidates[0]
    assert (first.settings["width"], first.settings["training.learning_rate"]) == (4, 0.05), "as given"


def test_the_search_is_judged_as_it_was_taught(found: Callable[..., tuple[Tuning, Tuning, Outcome]]) -> None:
    student, _, outcome = found()
    assert student.best is not None
    lived = outcome.entry("student", student.best.name).lived
    values = [one.value for one in student.candidates]
    assert student.best.candidate.value == max(values) == lived[0].validation
    assert lived[0].model.settings["width"] == student.best.candidate.settings["width"]
    assert lived[0].model.parameters == student.best.candidate.parameters


def test_a_search_killed_at_any_trial_goes_on_and_repeats_none(
    found: Callable[..., tuple[Tuning, Tuning, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = teaching._make

    def counted(desk: Any, lesson: Any, *rest: Any) -> None:
        if len(made) in killed:
            killed.remove(len(made))
            raise KeyboardInterrupt
        make(desk, lesson, *rest)
        made.append(lesson.key(desk.task))

    killed: set[int] = set()
    monkeypatch.setattr(teaching, "_make", counted)
    calm = found(out="calm")
    wanted, made = sorted(made), []
    killed = {7, 8, 11}  # six trainings lead to students and twins as given
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            found(out="killed")
    went_on = found(out="killed")
    assert [one.candidates for one in went_on[:2]] == [one.candidates for one in calm[:2]]
    assert [one.best for one in went_on[:2]] == [one.best for one in calm[:2]]
    # Teacher and baselines are in the cache, which both share.
    assert len(made) == len(set(made))
    assert set(made) <= set(wanted)
    again = found(out="killed")
    assert len(made) == len(set(made)), "and a third run trains nothing"
    assert again[:2] == went_on[:2]


def test_more_trials_go_on_from_those_that_were_made(found: Callable[..., tuple[Tuning, Tuning, Outcome]]) -> None:
    few, _, _ = found(RECIPE.replace("trials: 4", "trials: 2"))
    more, _, _ = found()
    assert (few.trials, more.trials) == (2, 4)
    settings = [[one.settings for one in search.candidates] for search in (few, more)]
    assert settings[1][:2] == settings[0]
    again, twin, _ = found(RECIPE.replace("trials: 4", "trials: 2"))
    assert (again.trials, twin.trials, again.candidates) == (2, 2, few.candidates), "fewer are the first of them"


def test_what_does_not_fit_is_not_taken_however_good(found: Callable[..., tuple[Tuning, Tuning, Outcome]]) -> None:
    free, _, _ = found()
    sizes = sorted(one.bytes for one in free.candidates)
    limit = sizes[1]
    student, _, outcome = found(RECIPE.replace("bytes: 100000", f"bytes: {limit}"), "tight")
    assert student.best is not None
    assert student.best.candidate.bytes <= limit
    assert all(one.fits == (one.bytes <= limit) for one in student.candidates)
    inside = [float(one.value or 0) for one in student.candidates if one.fits]
    assert student.best.candidate.value == max(inside)
    assert outcome.entry("student", student.best.name).lived[0].model.parameters * 4 <= limit


def test_beside_the_best_stands_the_best_that_is_no_larger_than_the_given(
    found: Callable[..., tuple[Tuning, Tuning, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tuning.files_of

    def wide_is_good(*asked: Any) -> Any:
        return tuple(replace(one, value=one.parameters / 1000) for one in files(*asked))

    monkeypatch.setattr(tuning, "files_of", wide_is_good)
    student, _, outcome = found()
    assert student.best is not None
    assert student.lean is not None
    assert student.given is not None
    assert student.best.candidate.bytes > student.given.bytes >= student.lean.candidate.bytes
    assert [student.best.name, student.lean.name] == ["mf-tuned", "mf-lean"]
    assert {"mf", "mf-tuned", "mf-lean"} == set(outcome.students)


def test_where_nothing_fits_the_report_says_that_none_was_found(shop: Path, unmeasured: None) -> None:
    recipe = RECIPE.replace("bytes: 100000", "bytes: 1").replace("trials: 4", "trials: 2")
    report = tune(parse(recipe)[0], base=shop, out=shop / "out")
    said = "The search found none: no file of the 2 trials of mf keeps to the budget (size ≤ 1 B, p95 ≤ 1.00 ms)."
    assert said in report.verdict
    assert "The search found none" in markdown(report)
    student, twin = report.protocols[0].tunings
    assert student.best is student.lean is twin.best is None
    assert {row.name for row in report.protocols[0].rows if row.role == "student"} == {"mf"}


def test_no_test_row_is_seen_before_the_search_is_over(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    searched: list[str] = []
    outcomes: list[Outcome] = []
    recommend = importlib.import_module("limbeck.tasks.recommend")
    judge, told = recommend.TASK.judge, tuning.outcome_of

    def judged(predictor: Any, rows: Any, problem: Any) -> Any:
        seen.append(rows.fingerprint)
        return judge(predictor, rows, problem)

    def timed(predictor: Any, rows: Any) -> Speed:
        seen.append(rows.fingerprint)
        return QUICK

    def outcome_of(*asked: Any) -> Outcome:
        searched.extend(seen)
        return told(*asked)  # type: ignore[no-any-return]

    monkeypatch.setattr(recommend, "TASK", replace(recommend.TASK, judge=judged))
    monkeypatch.setattr(leaving, "speed_of", timed)
    monkeypatch.setattr(tuning, "outcome_of", outcome_of)
    monkeypatch.setattr(tuning, "reported", lambda desk, bound, found, out: outcomes.extend(found))
    tune(parse(RECIPE.replace("trials: 4", "trials: 1"))[0], base=shop, out=shop / "out")
    (problem,) = outcomes[0].problems
    assert problem.test.fingerprint not in searched
    assert set(searched) == {problem.validation.fingerprint}
    assert problem.test.fingerprint in seen
    student, _ = outcomes[0].tunings
    assert student.candidates[0].bytes > 4 * student.candidates[0].parameters, "a real file, measured"
    assert student.candidates[0].p95_ms == QUICK.p95_ms


def test_a_training_that_falls_behind_is_given_up_counted_and_not_kept(
    shop: Path, found: Callable[..., tuple[Tuning, Tuning, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapping[int, float]] = []

    def behind(search: Search, parameters: int, curve: Mapping[int, float]) -> bool:
        asked.append(dict(curve))
        return max(curve) == 4

    monkeypatch.setattr(Search, "behind", behind)
    student, twin, _ = found()
    # The first trial is the student as given, which was trained before any search.
    assert (student.trials, student.pruned, twin.trials, twin.pruned) == (4, 3, 4, 3)
    assert {tuple(curve) for curve in asked} == {(2,), (2, 4)}
    kept = {place.name for place in (shop / "out" / "steps" / "students").iterdir()}
    assert len(kept) == 2 * (2 + 1), "student and twin: two choices of the given, and its second seed"
    assert not any((shop / "out" / "steps" / "students-unfinished").glob("*"))


def test_a_trial_that_cannot_be_trained_or_exported_fails_alone(
    found: Callable[..., tuple[Tuning, Tuning, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, measured = tuning.teach, tuning.measured

    def teach(desk: Any, lesson: Any, *rest: Any) -> Any:
        if lesson.training.learning_rate > 0.05:
            raise Diverged("too fast")
        return taught(desk, lesson, *rest)

    def refused(desk: Any, lived: Any, *rest: Any) -> Any:
        if lived.model.settings["width"] == 2:
            raise ParityRefused("too narrow")
        return measured(desk, lived, *rest)

    monkeypatch.setattr(tuning, "teach", teach)
    monkeypatch.setattr(tuning, "measured", refused)
    student, _, _ = found()
    assert student.failed > 0
    assert student.trials == 4 == len(student.candidates) + student.failed + student.pruned
    assert all(one.settings["training.learning_rate"] <= 0.05 for one in student.candidates)


def test_a_student_that_names_no_range_is_searched_around_what_is_given(
    found: Callable[..., tuple[Tuning, Tuning, Outcome]],
) -> None:
    start = RECIPE.index("    tune:\n")
    student, twin, _ = found(RECIPE[:start] + RECIPE[RECIPE.index("objective: [") :])
    wanted = {"dropout", "width", "training.learning_rate", "objective.1.weight", "objective.1.temperature"}
    assert {key for one in student.candidates for key in one.settings} == wanted
    assert {key for one in twin.candidates for key in one.settings} == {"dropout", "width", "training.learning_rate"}
    for one in student.candidates:
        assert 1 <= one.settings["width"] <= 16
        assert 0.005 <= one.settings["training.learning_rate"] <= 0.5
        assert 0.05 <= one.settings["objective.1.temperature"] <= 0.8


def test_nothing_to_search_is_the_users_mistake(found: Callable[..., tuple[Tuning, Tuning, Outcome]]) -> None:
    start = RECIPE.index("    choose:")
    with pytest.raises(UserError, match="'mf' has nothing to search"):
        found(RECIPE[:start] + "    tune: {}\n" + RECIPE[RECIPE.index("objective: [") :])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("width: {low", "widht: {low", "did you mean 'width'?"),
        ("low: 2, high: 12, log: true", "low: 0, high: 12", "a vector needs at least 1 number"),
        ("training.learning_rate", "training.learning_rat", "did you mean 'learning_rate'?"),
        ("objective.1.temperature", "objective.2.temperature", "losses are counted 0 to 1"),
        ("objective.1.temperature", "objective.1.temprature", "has no setting 'temprature'"),
        ("low: 0.05, high: 1.0, log: true", "low: -1.0, high: 1.0", "temperature"),
        ("weight: 0.3}", "weight: {schedule: linear, start: 0, end: 1}}", "only a number is tried or searched"),
        ("choose: {dropout", "choose: {width", "has a list under choose"),
        ("export:", "label: {top: 10}\nexport:", "keeps tails of given temperatures only"),
    ],
)
def test_ranges_that_cannot_be_are_found_before_any_work(shop: Path, old: str, new: str, said: str) -> None:
    assert RECIPE.count(old) == 1
    recipe, lines = parse(RECIPE.replace(old, new))
    mistakes = check(recipe, lines, shop)
    assert any(said in str(mistake) for mistake in mistakes), mistakes
    assert all(mistake.line for mistake in mistakes)


def test_a_right_recipe_is_found_right_and_a_run_passes_its_ranges_over(shop: Path) -> None:
    recipe, lines = parse(RECIPE.replace("splits: [0, 1]", "splits: [0]"))
    assert check(recipe, lines, shop) == []
    short = recipe.model_copy(update={"protocols": recipe.protocols[:1], "seeds": (4,)})
    report = run(short, base=shop, out=shop / "run")
    assert report.protocols[0].tunings == ()
    assert "searched" not in report.verdict
    assert recipe.students[0].tune is not None
    assert recipe.students[0].tune["width"] == Range(2, 12, log=True)
