import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limbeck.artifact import Artifact
from limbeck.errors import UserError
from limbeck.fetch import open_pack
from limbeck.recipe import parse
from limbeck.run import run
from limbeck.scaffold import scaffold
from limbeck.split import Split, assign
from limbeck.task import Problem, Source
from limbeck.tasks.value import METRICS, TASK
from limbeck.types import Array, Batch, Rows, Signals
from limbeck.verbs.predict import predict
from tests.test_contracts import by_customer, shoppers


def prepare(source: Source | None = None, part: Array | None = None, **options: Any) -> Problem:
    source = source or shoppers()
    return TASK.prepare(source, by_customer(source.rows) if part is None else part, {**TASK.options, **options})


def test_customers_and_what_they_want_are_those_of_a_loop() -> None:
    source = shoppers()
    orders = source.rows.table.to_pylist()
    for target in ("purchases", "dollars"):
        problem = prepare(source, cut=150, horizon=90, target=target)
        names = []
        for p, part in enumerate(("train", "validation", "test")):
            rows = getattr(problem, part).table.to_pylist()
            names += [row["user"] for row in rows]
            for row in rows:
                assert [0, 0, 0, 1, 2][int(row["user"][1:]) % 5] == p
                own = [one for one in orders if one["customer"] == row["user"]]
                days = sorted({one["day"] for one in own})
                assert row["ago"] == [150 - day for day in days if day <= 150]
                paid = [sum(one["paid"] for one in own if one["day"] == day) for day in days]
                np.testing.assert_allclose(row["amounts"], [a for a, d in zip(paid, days, strict=True) if d <= 150])
                after = [1 if target == "purchases" else a for a, d in zip(paid, days, strict=True) if 150 < d <= 240]
                assert row["wanted"] == pytest.approx(sum(after))
        first = {
            name: min(o["day"] for o in orders if o["customer"] == name) for name in {o["customer"] for o in orders}
        }
        assert sorted(names) == sorted(name for name, day in first.items() if day <= 150)
        assert problem.facts["came_after_the_cut_left_out"] == sum(day > 150 for day in first.values())


def test_nothing_after_the_cut_is_in_what_is_known() -> None:
    source = shoppers()
    table = source.rows.table
    later = np.asarray(source.rows.column("day")) > 182
    paid = np.where(later, 999.0, source.rows.column("paid"))
    other = Source(Rows(table.set_column(2, "paid", [paid]), source.rows.id, "other", source.rows.roles))
    one, two = prepare(source, target="dollars", cut=182), prepare(other, target="dollars", cut=182)
    assert one.test.select(["user", "ago", "amounts"]).table.equals(two.test.select(["user", "ago", "amounts"]).table)
    assert not one.test.select(["wanted"]).table.equals(two.test.select(["wanted"]).table)
    assert "wanted" not in one.reads


def test_ids_are_the_same_when_rows_are_shuffled() -> None:
    rows = shoppers().rows
    shuffled = rows.take(np.random.default_rng(2).permutation(len(rows)))
    assert prepare(Source(shuffled)).test.id.tolist() == prepare().test.id.tolist()


def test_dates_and_numbers_are_one_and_the_middle_is_the_default_cut() -> None:
    source = shoppers()
    days = np.asarray(source.rows.column("day"))
    dated = source.rows.table.set_column(1, "day", pa.array(np.datetime64("2024-01-01") + days))
    one = prepare(source)
    two = prepare(Source(Rows(dated, source.rows.id, "dated", source.rows.roles)), cut="2024-07-01", horizon=182)
    assert one.facts["known_until"] == str((days.min() + days.max()) // 2) == "182"
    assert two.facts["known_until"] == "2024-07-01"
    assert one.test.table.equals(two.test.table)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target": "euros"}, "purchases or dollars was wanted"),
        ({"cut": 400}, "they lie between 0 and 364"),
        ({"cut": "2024-01-31"}, "write a whole number"),
        ({"cut": 182, "horizon": 183}, "a whole number of 1 to 182"),
        ({"horizon": 0}, "a whole number of 1 to"),
        ({"horizon": 1.5}, "a whole number of 1 to"),
    ],
)
def test_impossible_options_are_refused_in_words(options: Mapping[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        prepare(**options)


def test_a_part_whose_customers_all_stay_away_is_refused() -> None:
    rows = shoppers().rows
    day = np.where(by_customer(rows) == 2, 5, rows.column("day"))
    away = Rows(rows.table.set_column(1, "day", [day]), rows.id, "away", rows.roles)
    with pytest.raises(UserError, match="no test customer is worth anything within 182 after 182"):
        prepare(Source(away))


def test_a_customer_in_two_parts_is_refused_with_the_split_that_mends_it() -> None:
    rows = shoppers().rows
    with pytest.raises(UserError, match=r"have transactions in two parts; .* by: customer"):
        prepare(part=np.random.default_rng(0).choice(3, len(rows)))
    prepare(part=assign(rows, Split("group", by="customer", shares=(6, 2, 2))))
    with pytest.raises(UserError, match="no validation customer came until"):
        prepare(part=np.where(by_customer(rows) == 1, 3, by_customer(rows)))


class Says:
    reads = ("ago",)
    fingerprint = "says"

    def __init__(self, **signals: Array) -> None:
        self.signals = signals

    def __call__(self, batch: Batch) -> Signals:
        return Signals({k: v[: len(batch.key)] for k, v in self.signals.items()}, dict.fromkeys(self.signals, "values"))


def test_answers_name_the_customer_the_value_and_the_chance() -> None:
    problem = prepare()
    batch = problem.test.slice(0, 2).batch()
    told = {"values": np.array([[2.0], [0.5]]), "distribution": np.array([[[0.0, 1, 1]], [[-800.0, 1, 1]]])}
    said = Signals(told, dict.fromkeys(told, "values"))
    assert TASK.answer(said, problem.axis, batch, 5) == [
        {"user": batch["user"][0], "value": 2.0, "comes_back": 0.5},
        {"user": batch["user"][1], "value": 0.5, "comes_back": 0.0},
    ]
    bare, nameless = Signals({"values": told["values"]}, {"values": "values"}), Batch({"ago": batch["ago"]}, batch.key)
    assert TASK.answer(bare, problem.axis, nameless, 5) == [{"value": 2.0}, {"value": 0.5}]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.ones((99, 2)), "one number a customer"),
        (np.full((99, 1), np.nan), "NaN or infinite"),
        (None, "said in 'values'"),
    ],
)
def test_a_predictor_that_makes_no_sense_is_refused(values: Array | None, match: str) -> None:
    problem = prepare()
    said = Says(scores=np.ones((99, 1))) if values is None else Says(values=values)
    with pytest.raises(UserError, match=match):
        TASK.judge(said, problem.test, problem)


def test_slices_part_the_customers_and_the_oracle_is_perfect() -> None:
    problem = prepare()
    truth = np.asarray(problem.test.column("wanted"))
    judged = TASK.judge(Says(values=truth[:, None]), problem.test, problem)
    assert judged.metrics == pytest.approx({"gini": 1.0, "rmse": 0.0, "bias": 0.0, "tenth_error": 0.0})
    assert set(METRICS) == set(judged.metrics)
    sizes = {name: told["n"] for name, told in judged.slices.items()}
    assert sizes["bought once"] + sizes["bought again"] == len(truth)
    assert sizes["there lately"] + sizes["there long ago"] == len(truth)


def csv(folder: Path, rows: Rows) -> Path:
    file = folder / "orders.csv"
    day = np.datetime64("2024-01-01") + np.asarray(rows.column("day"))
    lines = [f"{c},{d},{p}" for c, d, p in zip(rows.column("customer"), day, rows.column("paid"), strict=True)]
    file.write_text("\n".join(["customer,ordered_at,amount", *lines]) + "\n", encoding="utf-8")
    return file


@pytest.mark.slow
def test_a_file_of_ones_own_is_drafted_run_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    file = csv(tmp_path, shoppers(300).rows)
    drafted = scaffold(file, tmp_path)
    assert drafted.task == "value"
    assert drafted.roles == {"user": "customer", "time": "ordered_at", "amount": "amount"}
    recipe, _ = parse(drafted.text, changes=("seeds=[0]", "training.epochs=20", "teacher.allow_weak=true"))
    report = run(recipe, base=tmp_path, out=tmp_path / "out")
    assert {row.name for row in report.protocols[0].rows} >= {"pareto_nbd", "small", "linear"}
    artifact = Artifact.open(tmp_path / "out" / "artifact" / "small")
    assert set(artifact.contract.reads) == {"user", "ago", "amounts"}
    done = predict(artifact, file, tmp_path / "answers.jsonl")
    said = {one["user"]: one for one in map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())}
    assert done.rows == len(said) == 300
    assert all(one["value"] >= 0 and 0 <= one["comes_back"] <= 1 for one in said.values())
    # Who bought often and lately is worth more than who came once.
    orders = Counter(shoppers(300).rows.column("customer"))
    often = [said[name]["value"] for name, count in orders.items() if count > 20]
    seldom = [said[name]["value"] for name, count in orders.items() if count <= 2]
    assert np.mean(often) > np.mean(seldom)


@pytest.mark.slow
def test_every_protocol_of_the_recipe_has_customers() -> None:
    source = open_pack("cdnow")
    assert isinstance(source, Source)
    recipe, _ = parse((Path(__file__).parents[2] / "recipes" / "value-cdnow.yaml").read_text(encoding="utf-8"))
    for protocol in recipe.protocols:
        options = {**TASK.options, **recipe.options, **protocol.options}
        problem = TASK.prepare(source, assign(source.rows, protocol.split), options)
        assert problem.facts["horizon"] == 273
        assert len(problem.train) + len(problem.validation) + len(problem.test) == 23_570
        assert (len(problem.test) == 2357) == protocol.name.startswith("sample")
