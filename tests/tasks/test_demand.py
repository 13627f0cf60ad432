from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from limbeck import parts, split, verdict
from limbeck.bind import bind
from limbeck.errors import UserError
from limbeck.recipe import parse
from limbeck.scaffold import scaffold
from limbeck.series import LEVELS
from limbeck.task import Problem, Source
from limbeck.tasks.demand import TASK
from limbeck.teachers.ensemble import EnsemblePredictor
from limbeck.types import Array, Batch, Rows, Signals

WEEKS, SERIES = 30, 4
CUTS = (18, 24)


def demand(seed: int = 0) -> Array:
    return np.random.default_rng(seed).gamma(3.0, 4.0, size=(SERIES, WEEKS)).round(2)


def rows(held: Array | None = None, **columns: Any) -> Rows:
    held = demand() if held is None else held
    name, week = np.divmod(np.arange(held.size), held.shape[1])
    table = pa.table({"unique_id": [f"s{n}" for n in name], "ds": week, "y": held.ravel(), **columns})
    roles: dict[str, Any] = {"series": "unique_id", "time": "ds", "target": "y"}
    if columns:
        roles["known"] = tuple(columns)
    there = np.flatnonzero(~np.isnan(held.ravel()))
    return Rows(table.take(there), there, "here", roles)


def parted(some: Rows, cuts: tuple[int, int] = CUTS) -> Array:
    week = some.column("ds")
    return (week >= cuts[0]).astype(np.int8) + (week >= cuts[1])


def prepare(some: Rows | None = None, part: Array | None = None, **options: Any) -> Problem:
    some = rows() if some is None else some
    settings = {**TASK.options, "horizon": 3, "length": 5, **options}
    return TASK.prepare(Source(some, facts={"licence": "ours"}), parted(some) if part is None else part, settings)


def cutoffs(problem: Problem, part: str) -> set[int]:
    return {int(c) for c in getattr(problem, part).column("cutoff")}


class Says:
    """A predictor that answers what it is given, by row id."""

    reads = ("past",)
    fingerprint = "says"

    def __init__(self, of: Rows, **signals: Array) -> None:
        self.at = {int(id): n for n, id in enumerate(of.id)}
        self.signals = signals

    def __call__(self, batch: Batch) -> Signals:
        where = [self.at[int(id)] for id in batch.key.id]
        return Signals({k: v[where] for k, v in self.signals.items()}, {k: k for k in self.signals})


@pytest.mark.parametrize("horizon", [1, 3, 6])
def test_a_question_is_in_the_part_that_all_its_dates_are_in(horizon):
    problem = prepare(horizon=horizon)
    spans = {"train": (0, 18), "validation": (18, 24), "test": (24, 30)}
    for part, (first, after) in spans.items():
        origins = set(range(max(0, first - 1), after - horizon))
        assert cutoffs(problem, part) == origins
        assert len(getattr(problem, part)) == SERIES * len(origins)
    assert problem.facts["questions_across_parts_left_out"] == SERIES * 2 * (horizon - 1)


def test_windows_and_targets_are_those_of_a_loop():
    held = demand()
    held[1, [7, 20, 26]] = np.nan
    problem = prepare(rows(held))
    for part in ("train", "validation", "test"):
        for row in getattr(problem, part).table.to_pylist():
            s, o = int(row["series"][1:]), int(row["cutoff"])
            np.testing.assert_array_equal(row["past"], [held[s, t] if t >= 0 else np.nan for t in range(o - 4, o + 1)])
            np.testing.assert_array_equal(row["targets"], held[s, o + 1 : o + 4])
            assert row["dates"] == [str(t) for t in range(o + 1, o + 4)]
    said = TASK.targets(problem.test, problem)
    np.testing.assert_array_equal(said["mask"].sum(), np.isfinite(problem.test.column("targets").values).sum())
    assert np.isfinite(said["values"]).all()


def test_nothing_of_the_future_is_in_a_row():
    """Changing all demand from a date on leaves every row that is asked before it, but for its targets."""
    held = demand()
    later = held.copy()
    later[:, 24:] *= 100
    before, after = prepare(rows(held)), prepare(rows(later))
    for part in ("train", "validation"):
        assert str(getattr(before, part).table.to_pylist()) == str(getattr(after, part).table.to_pylist())
    asked = [
        [{k: v for k, v in row.items() if k != "targets"} for row in of.test.table.to_pylist() if row["cutoff"] == "23"]
        for of in (before, after)
    ]
    assert len(asked[0]) == SERIES
    assert str(asked[0]) == str(asked[1])


def test_ids_are_the_same_when_rows_are_shuffled_or_come_later():
    problem = prepare()
    some = rows()
    order = np.random.default_rng(2).permutation(len(some))
    shuffled = some.take(order)
    assert sorted(prepare(shuffled).test.id) == sorted(problem.test.id)
    assert prepare(shuffled).facts["rows_out_of_order"] > 0
    grown = rows(np.concatenate([demand(), demand(1)[:, :4]], 1))
    known = dict(zip(problem.train.id.tolist(), problem.train.column("cutoff"), strict=True))
    assert set(known) <= set(prepare(grown).train.id.tolist())
    assert len({*problem.train.id, *problem.validation.id, *problem.test.id}) == sum(
        len(getattr(problem, part)) for part in ("train", "validation", "test")
    )


def test_the_scale_of_mase_is_of_training_days_alone():
    held = demand()
    problem = prepare(rows(held))
    wanted = np.abs(np.diff(held[:, :18], axis=1)).mean(1)
    for row in problem.test.table.to_pylist():
        assert row["naive_error"] == pytest.approx(wanted[int(row["series"][1:])])


def test_a_gap_is_not_recorded_or_no_demand_as_the_option_says():
    held = demand()
    held[2, 10:14] = np.nan
    held[3, 25] = np.nan
    masked, filled = (prepare(rows(held), horizon=1, missing=how) for how in ("mask", "zero"))
    assert len(filled.train) == len(masked.train) + 4
    assert len(filled.test) == len(masked.test) + 1
    zeros = [r for r in filled.test.table.to_pylist() if r["series"] == "s3" and r["cutoff"] == "24"]
    assert zeros[0]["targets"] == [0.0]


def test_metrics_are_those_of_scikit_learn():
    held = demand()
    held[0, 25] = np.nan
    problem = prepare(rows(held))
    rng = np.random.default_rng(5)
    quantiles = np.sort(rng.gamma(3.0, 4.0, size=(len(problem.test), 3, 3)), 2)
    judged = TASK.judge(Says(problem.test, values=quantiles[:, :, 1], quantiles=quantiles), problem.test, problem)
    truth = np.array(problem.test.column("targets").values).reshape(-1, 3)
    there = np.isfinite(truth)
    each = [mean_absolute_error(t[m], q[m]) for t, q, m in zip(truth, quantiles[:, :, 1], there, strict=True)]
    assert judged.metrics["mae"] == pytest.approx(np.mean(each))
    losses = [mean_pinball_loss(truth[there], quantiles[:, :, q][there], alpha=at) for q, at in enumerate(LEVELS)]
    assert judged.metrics["weighted_quantile_loss"] == pytest.approx(2 * np.mean(losses) / truth[there].mean())
    for h in range(3):
        one = mean_absolute_error(truth[:, h][there[:, h]], quantiles[:, h, 1][there[:, h]])
        assert judged.slices[f"step {h + 1}"]["mae"] == pytest.approx(one)
    assert len(np.unique(judged.unit)) == SERIES
    for name, metric in TASK.metrics.items():
        quick = getattr(metric, "resampled", None)
        if quick is not None:
            counts = np.bincount(rng.integers(0, len(truth), len(truth)), minlength=len(truth))
            drawn = {k: np.repeat(v, counts, axis=0) for k, v in judged.columns.items()}
            assert quick(judged.columns)(counts) == pytest.approx(metric(drawn)), name


def test_a_forecast_without_quantiles_is_taken_to_be_certain():
    problem = prepare()
    truth = TASK.targets(problem.test, problem)["values"]
    perfect = TASK.judge(Says(problem.test, values=truth), problem.test, problem).metrics
    assert perfect["mae"] == pytest.approx(0, abs=1e-5)
    off = TASK.judge(Says(problem.test, values=truth + 1), problem.test, problem).metrics
    assert off["coverage"] == 0
    assert off["weighted_quantile_loss"] == pytest.approx(off["wape"], rel=1e-4)
    assert off["bias"] == pytest.approx(off["wape"], rel=1e-4)


def test_forecasts_agree_as_they_correlate():
    problem = prepare()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, len(problem.test), 3))
    one, other = (TASK.judge(Says(problem.test, values=said), problem.test, problem) for said in values)
    wanted = pearsonr(one.columns["values"].ravel(), other.columns["values"].ravel()).statistic
    assert verdict.agreement([one], [other]) == pytest.approx(wanted)
    assert verdict.agreement([one], [one]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        ({"logits": np.zeros((16, 3))}, "says 'values'; there are: logits"),
        ({"values": np.zeros((16, 2))}, "3 steps a question"),
        ({"values": np.zeros((16, 3)), "quantiles": np.zeros((16, 3, 2))}, "3 a step were wanted"),
        ({"values": np.full((16, 3), np.nan)}, "NaN"),
    ],
)
def test_an_answer_of_another_form_is_refused(signals, words):
    problem = prepare()
    with pytest.raises(UserError, match=words):
        TASK.judge(Says(problem.test, **signals), problem.test, problem)


def test_rows_of_a_series_that_learns_from_later_days_are_refused():
    some = rows()
    part = np.random.default_rng(0).choice(3, len(some))
    with pytest.raises(UserError, match="split in time"):
        prepare(some, part)
    by_series = np.array([(0, 0, 1, 2)[int(name[1:])] for name in some.column("unique_id")])
    assert set(prepare(some, by_series).test.column("series")) == {"s3"}


@pytest.mark.parametrize(
    ("held", "options", "words"),
    [
        (demand(), {"horizon": 7}, "no validation question: its rows lie on 6 dates .* asks about 7"),
        (np.where(np.arange(WEEKS) < 28, -1.0, demand()), {}, "negative"),
        (demand(), {"horizon": 0}, "options.horizon is 0"),
        (demand(), {"length": True}, "options.length is True"),
        (demand(), {"missing": "no"}, "'mask|mask or zero"),
        (demand(), {"weigh": "shop"}, "unit or series"),
        (demand(), {"frequency": "week"}, "a whole number above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(held, options, words):
    with pytest.raises(UserError, match=words):
        prepare(rows(held), **options)


def test_series_that_are_short_silent_or_constant_are_counted_not_hidden():
    held = demand()
    held[0] = 7.0
    held[1, 2:] = np.nan
    some = rows(held)
    mute = pa.table({"unique_id": ["mute"] * 3, "ds": [1, 2, 3], "y": pa.nulls(3, pa.float64())})
    table = pa.concat_tables([some.table, mute])
    problem = prepare(replace(some, table=table, id=np.arange(table.num_rows)))
    assert problem.facts["series_without_demand"] == 1
    assert problem.facts["series_that_never_change_in_training"] == 1
    assert problem.facts["series_shorter_than_the_horizon"] == 2
    assert set(problem.train.column("series")) == {"s0", "s2", "s3"}
    truth = TASK.targets(problem.test, problem)["values"]
    judged = TASK.judge(Says(problem.test, values=truth + 1.0), problem.test, problem)
    assert np.isfinite(list(judged.metrics.values())).all()


def test_nobody_forecasts_from_nothing():
    some = rows()
    none = replace(some, table=some.table.set_column(2, "y", pa.nulls(len(some), pa.float64())))
    with pytest.raises(UserError, match="column 'y' is empty in every row"):
        prepare(none)


def test_series_weigh_alike_where_that_is_wanted():
    held = demand() * np.array([[1.0], [10.0], [100.0], [1000.0]])
    problem = prepare(rows(held), weigh="series")
    weight, naive = (problem.train.column(name) for name in (problem.train.role("weight"), "naive_error"))
    product = weight * naive
    np.testing.assert_allclose(product, product[0])
    assert "weight" not in prepare(rows(held)).train.roles


def test_an_answer_has_dates_values_and_quantiles():
    problem = prepare()
    said = Signals(
        {"values": np.array([[1.0, 2, 3]]), "quantiles": np.arange(9.0).reshape(1, 3, 3)},
        {"values": "values", "quantiles": "quantiles"},
    )
    (one,) = TASK.answer(said, problem.axis, problem.test.slice(0, 1).batch(), 1)
    assert one["series"] == "s0"
    assert [step["date"] for step in one["forecasts"]] == ["24", "25", "26"]
    quantiles = {"0.1": 3.0, "0.5": 4.0, "0.9": 5.0}
    assert one["forecasts"][1] == {"date": "25", "step": 2, "value": 2.0, "quantiles": quantiles}


def test_an_ensemble_averages_values_and_quantiles():
    problem = prepare()
    count = len(problem.test)
    rng = np.random.default_rng(0)
    quantiles = [np.sort(rng.normal(size=(count, 3, 3)), 2) for _ in "ab"]
    members = [Says(problem.test, values=q[:, :, 1], quantiles=q) for q in quantiles]
    joined = parts.make("teachers", "ensemble", {"members": ({}, {}), "weights": (3, 1)}).bind(members, problem)
    said = joined(problem.test.batch())
    np.testing.assert_allclose(said["quantiles"], 0.75 * quantiles[0] + 0.25 * quantiles[1], rtol=1e-5)
    np.testing.assert_array_equal(said["values"], said["quantiles"][:, :, 1])
    assert said.kinds == {"values": "values", "quantiles": "quantiles"}
    certain = Says(problem.test, values=quantiles[1][:, :, 1])
    points = EnsemblePredictor([members[0], certain], [1, 1], "probabilities", signal="values")
    assert set(points(problem.test.batch())) == {"values"}


@pytest.mark.parametrize("long", [True, False])
def test_anyones_forecasts_teach_from_a_table(long, tmp_path):
    problem = prepare()
    rng = np.random.default_rng(0)
    told, wanted = [], {}
    for part in ("train", "validation", "test"):
        for row in getattr(problem, part).table.to_pylist():
            key = (row["series"], row["cutoff"])
            wanted[key] = rng.normal(size=3)
            told.append((*key, *wanted[key]))
    columns: Mapping[str, Any]
    if long:
        flat = rng.permutation(np.array([(s, c, h + 1, v[h]) for s, c, *v in told for h in range(3)], object))
        columns = dict(zip(("series", "cutoff", "step", "yhat"), zip(*flat, strict=True), strict=True))
        settings = {"by": ("series", "cutoff"), "item": "step", "score": "yhat"}
    else:
        columns = dict(zip(("series", "cutoff", "1", "2", "3"), zip(*told, strict=True), strict=True))
        settings = {"by": ("series", "cutoff")}
    pyarrow.csv.write_csv(pa.table({k: list(v) for k, v in columns.items()}), tmp_path / "theirs.csv")
    teacher = parts.make("teachers", "table", {"path": "theirs.csv", **settings}).open(problem, tmp_path)
    said = teacher(problem.test.batch())
    assert said.kinds == {"values": "values"}
    for row, values in zip(problem.test.table.to_pylist(), said["values"], strict=True):
        np.testing.assert_allclose(values, wanted[row["series"], row["cutoff"]], rtol=1e-5)


def file(folder: Path, days: int = 80, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    name, day = np.divmod(np.arange(6 * days), days)
    dates = np.datetime64("2024-01-01") + day
    y = np.round(10 * (name + 1) + 5 * np.sin(2 * np.pi * day / 7) + rng.normal(size=len(day)))
    columns = {"unique_id": [f"00{n}" for n in name], "ds": pa.array(dates), "y": y, **changes}
    pyarrow.csv.write_csv(pa.table(columns), folder / "sales.csv")
    return folder / "sales.csv"


def test_a_file_of_ones_own_gets_a_recipe_that_binds(tmp_path):
    made = scaffold(file(tmp_path), tmp_path)
    assert made.task == "demand"
    assert made.roles == {"series": "unique_id", "time": "ds", "target": "y"}
    recipe, _ = parse(made.text)
    bound = bind(recipe, tmp_path)
    part = split.assign(bound.source.rows, recipe.protocols[0].split)
    problem = TASK.prepare(bound.source, part, {**TASK.options, **recipe.options})
    assert problem.facts["frequency"] == "day"
    assert problem.facts["season"] == 7
    assert len(problem.axis) == 7
    assert min(len(problem.train), len(problem.validation), len(problem.test)) > 0


def test_a_file_with_too_few_dates_is_told_so(tmp_path):
    with pytest.raises(UserError, match="2 dates in column 'ds' are too few"):
        scaffold(file(tmp_path, days=2), tmp_path, "demand")


@pytest.mark.slow
def test_from_a_file_to_forecasts_with_dates(tmp_path, monkeypatch):
    import json

    from limbeck.artifact import Artifact
    from limbeck.run import run
    from limbeck.verbs.predict import predict

    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    sales = file(tmp_path)
    text = scaffold(sales, tmp_path).text
    changes = ["training.epochs=2", "training.check_every=2", "seeds=[0]", "teacher.hidden=16"]
    changes += [
        "teacher.allow_weak=true",
        "students=[{model: linear_forecast, name: linear}]",
        "export={precisions: [fp32]}",
    ]
    recipe, _ = parse(text, changes=changes)
    report = run(recipe, base=tmp_path, out=tmp_path / "run")
    assert {row.name for row in report.protocols[0].rows} >= {"nhits", "linear", "zeros", "last_value"}
    artifact = Artifact.open(tmp_path / "run" / "artifact" / "linear")
    history = pyarrow.csv.read_csv(sales).take(np.random.default_rng(0).permutation(6 * 80))
    named = history.set_column(0, "unique_id", history.column(0).cast(pa.string()))
    pa.parquet.write_table(named, tmp_path / "history.parquet")
    predict(artifact, tmp_path / "history.parquet", tmp_path / "answers.jsonl")
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [one["series"] for one in answers] == ["0", "1", "2", "3", "4", "5"]
    assert [step["date"] for step in answers[0]["forecasts"]] == [f"2024-03-{d}" for d in range(21, 28)]
    for step in answers[5]["forecasts"]:
        assert step["quantiles"]["0.1"] <= step["value"] <= step["quantiles"]["0.9"]
    lost = history.drop(["y"])
    pa.parquet.write_table(lost, tmp_path / "lost.parquet")
    with pytest.raises(UserError, match="no column 'y'; a history has unique_id, ds, y"):
        predict(artifact, tmp_path / "lost.parquet", tmp_path / "none.jsonl")
