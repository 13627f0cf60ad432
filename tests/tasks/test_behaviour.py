from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from limbeck import recipe
from limbeck.artifact import Artifact
from limbeck.check import check
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.run import run
from limbeck.scaffold import scaffold
from limbeck.task import Problem, Source
from limbeck.tasks.behaviour import TASK, yes_or_no
from limbeck.types import Array, Batch, Rows, Signals

COUNT = 600
RNG = np.random.default_rng(0)
USER, ITEM = RNG.integers(0, 30, COUNT), RNG.integers(0, 15, COUNT)
PART = np.arange(COUNT) // 100 % 3  # of every part some early and some late
LABEL = (RNG.random(COUNT) < 0.2 + 0.6 * (ITEM % 2)).astype(np.int64)


def source(label: Any = None, **columns: Any) -> Source:
    held = {
        "user": USER,
        "item": [f"i{i}" for i in ITEM],
        "time": np.arange(COUNT) // 2,
        "price": RNG.normal(size=COUNT),
    }
    table = pa.table({**held, "clicked": LABEL if label is None else label, **columns})
    roles: dict[str, Any] = {"user": "user", "item": "item", "time": "time", "label": "clicked"}
    return Source(Rows(table, np.arange(COUNT), "shop", roles), facts={"licence": "ours"})


def prepare(of: Source | None = None, **options: Any) -> Problem:
    return TASK.prepare(of or source(), PART, {**TASK.options, **options})


class Says:
    """A predictor that answers a chance by row id."""

    reads = ("user",)
    fingerprint = "says"

    def __init__(self, chance: Array) -> None:
        self.chance = chance

    def __call__(self, batch: Batch) -> Signals:
        yes = self.chance[batch.key.id]
        return Signals({"p": np.stack([1 - yes, yes], 1)}, {"p": "probabilities"})


def test_a_student_reads_users_items_and_what_has_no_role() -> None:
    problem = prepare()
    assert problem.reads == ("user", "item", "price")
    assert problem.axis.values == ("no", "yes")
    assert [len(problem.train), len(problem.validation), len(problem.test)] == [200, 200, 200]
    assert TASK.targets(problem.test, problem)["label"].tolist() == LABEL[PART == 2].tolist()
    assert problem.facts["licence"] == "ours"


def test_history_holds_training_rows_of_the_same_user_strictly_before() -> None:
    problem = prepare(history=3, rates=True)
    assert problem.reads[-2 - 4 :][:2] == ("history", "passed")
    for some in (problem.train, problem.test):
        liked, passed = some.column("history"), some.column("passed")
        for place, id_ in enumerate(some.id.tolist()):
            earlier = [m for m in range(COUNT) if USER[m] == USER[id_] and m // 2 < id_ // 2 and PART[m] == 0]
            assert list(liked[place]) == [f"i{ITEM[m]}" for m in earlier if LABEL[m]][-3:]
            assert list(passed[place]) == [f"i{ITEM[m]}" for m in earlier if not LABEL[m]][-3:]


def test_labels_of_rows_that_judge_change_nothing_that_is_read() -> None:
    """The surest test of a leak: other answers in validation and test rows leave every feature as it is."""
    turned = np.where(PART == 0, LABEL, 1 - LABEL)
    columns = {"price": np.arange(COUNT, dtype=float)}
    both = [prepare(source(label, **columns), history=5, rates=True) for label in (LABEL, turned)]
    for name in both[0].reads:
        for part in ("train", "validation", "test"):
            first, second = (getattr(problem, part).table.column(name) for problem in both)
            assert first.equals(second), name


@pytest.mark.parametrize(
    ("label", "positive", "wanted"),
    [
        (pa.array([True, False, None]), None, [1, 0, 2]),
        (pa.array([0.0, 1.0, 1.0]), None, [0, 1, 1]),
        (pa.array(["No", "YES", ""]), None, [0, 1, 2]),
        (pa.array(["-1", "1", "1"]), None, [0, 1, 1]),
        (pa.array([3.0, 4.0, 5.0]), 4, [0, 1, 1]),
        (pa.array([3, None, 5]), 4, [0, 2, 1]),
        (pa.array(["left", "stayed", "left"]), "left", [1, 0, 1]),
        (pa.array(["true", "false", "true"]), True, [1, 0, 1]),
    ],
)
def test_labels_say_which_is_yes(label: pa.Array, positive: Any, wanted: list[int]) -> None:
    rows = Rows(pa.table({"y": label}), np.arange(3), "here", {"label": "y"})
    assert yes_or_no(rows, positive)[0].tolist() == wanted


@pytest.mark.parametrize(
    ("label", "positive", "words"),
    [
        (pa.array([1, 2, 3]), None, "say which is yes"),
        (pa.array(["left", "stayed", "left"]), None, "say which is yes"),
        (pa.array(["left", "stayed", "left"]), "gone", "which no row says"),
        (pa.array([1.0, 2.0, 3.0]), "much", "a number was wanted"),
    ],
)
def test_labels_that_do_not_are_refused(label: pa.Array, positive: Any, words: str) -> None:
    rows = Rows(pa.table({"y": label}), np.arange(3), "here", {"label": "y"})
    with pytest.raises(UserError, match=words):
        yes_or_no(rows, positive)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"history": -1}, "0 or more"),
        ({"history": 2.5}, "0 or more"),
        ({"columns": {"clicked": "number"}}, "columns that are read are"),
        ({"columns": {"price": "weight"}}, "there are: category"),
    ],
)
def test_wrong_options_are_refused_in_words(options: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepare(**options)


def test_every_part_needs_both_answers() -> None:
    with pytest.raises(UserError, match="all 200 test rows say no"):
        prepare(source(np.where(PART == 2, 0, LABEL)))


def test_a_row_without_label_trains_only_with_a_teacher() -> None:
    label = pa.array(LABEL, mask=np.arange(COUNT) % 10 == 0)
    problem = prepare(source(label))
    assert problem.unlabelled is not None
    assert problem.unlabelled.id.tolist() == [n for n in range(0, COUNT, 10) if PART[n] == 0]
    assert not set(problem.test.id.tolist()) & set(range(0, COUNT, 10))
    assert problem.facts["without_label_left_out"] == 40


def test_metrics_are_scikit_learns() -> None:
    problem, chance = prepare(), RNG.random(COUNT)
    found = TASK.judge(Says(chance), problem.test, problem)
    mine, yes = chance[problem.test.id], LABEL[problem.test.id]
    assert found.metrics["auc"] == pytest.approx(roc_auc_score(yes, mine))
    assert found.metrics["log_loss"] == pytest.approx(log_loss(yes, mine))
    assert found.metrics["accuracy"] == pytest.approx(((mine > 0.5) == yes).mean())
    assert found.metrics["pcoc"] == pytest.approx(mine.sum() / yes.sum())
    assert found.metrics["gauc"] == pytest.approx(grouped(mine, yes, USER[problem.test.id]))


def grouped(chance: Array, yes: Array, group: Array) -> float:
    pairs = [(roc_auc_score(yes[mine], chance[mine]), mine.sum()) for g in set(group) if yes[mine := group == g].std()]
    areas, weights = zip(*pairs, strict=True)
    return float(np.average(areas, weights=weights))


def test_slices_tell_known_from_unknown() -> None:
    user = np.where((PART == 2) & (np.arange(COUNT) % 4 == 0), 1000 + np.arange(COUNT), USER)
    of = source()
    rows = Rows(of.rows.table.set_column(0, "user", pa.array(user)), of.rows.id, "shop", of.rows.roles)
    problem = prepare(Source(rows))
    slices = TASK.judge(Says(RNG.random(COUNT)), problem.test, problem).slices
    assert slices["unseen users"]["n"] == 50
    assert slices["unseen items"] == {"n": 0.0}
    assert slices["head items"]["n"] + slices["tail items"]["n"] == 200
    assert {"auc", "log_loss", "pcoc", "chance_error"} <= slices["unseen users"].keys()
    assert problem.facts["rows_of_unseen_users"] == {"validation": 0, "test": 50}


RECIPE = """
task: behaviour
data:
  path: rows.csv
  roles: {user: user, item: item, time: time, label: clicked, privileged: [stayed]}
protocols:
  - {name: random, split: {kind: random, shares: [6, 2, 2]}}
teacher: {model: deep_fm, width: 4, hidden: [8], privileged: true}
students:
  - {model: sparse_logistic, name: logistic}
  - {model: embedding_mlp, name: mlp, width: 2, hidden: [4], calibration: isotonic}
objective:
  - {loss: hard, weight: 0.3}
  - {loss: kl, weight: 0.7, temperature: 1.0}
training: {epochs: 12, batch_size: 64, learning_rate: 0.02}
seeds: [0]
export: {precisions: [fp32]}
"""


def shop(folder: Path) -> Path:
    """Rows whose label hangs on how long somebody stayed, which is known only afterwards."""
    random = np.random.default_rng(3)
    stayed = random.normal(size=COUNT)
    label = (stayed + 0.8 * (ITEM % 2) + 0.3 * random.normal(size=COUNT) > 0.4).astype(int)
    lines = ["user,item,time,price,stayed,clicked"]
    lines += [f"u{USER[n]},i{ITEM[n]},{n},{n % 7},{stayed[n]:.4f},{label[n]}" for n in range(COUNT)]
    (folder / "rows.csv").write_text("\n".join(lines))
    return folder / "rows.csv"


@pytest.mark.slow
def test_a_teacher_may_read_what_no_student_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    shop(tmp_path)
    told, lines = recipe.parse(RECIPE)
    assert check(told, lines, tmp_path) == []
    report = run(told, base=tmp_path, out=tmp_path / "out")
    assert "pcoc" in report.verdict
    rows = {row.role: row.metrics["auc"].mean for row in report.protocols[0].rows}
    assert rows["teacher"] > rows["student"] + 0.05  # it knows more
    artifact = Artifact.open(tmp_path / "out" / "artifact" / "logistic")
    assert "stayed" not in artifact.contract.reads
    # The graph takes what its encoder makes, in which the column has no place; to feed it is an error.
    assert not [name for name in artifact.encoder["item"].number_names if name.startswith("stayed")]
    with pytest.raises(ValueError, match="stayed"):
        artifact.predictor().session.run(None, {"stayed": np.zeros((1, 1), np.float32)})
    # What was calibrated leaves calibrated, and was held against the student before it left.
    assert (tmp_path / "out" / "artifact" / "mlp" / "model.onnx").exists()
    student = RECIPE.replace("name: logistic}", "name: logistic, privileged: true}")
    told, lines = recipe.parse(student)
    assert "which only a teacher may see" in str(check(told, lines, tmp_path)[0])


def test_a_users_own_file_becomes_a_recipe(tmp_path: Path) -> None:
    made = scaffold(shop(tmp_path), tmp_path)
    assert made.task == "behaviour"
    assert made.roles == {"user": "user", "item": "item", "time": "time", "label": "clicked"}
    assert "features: [price, stayed]" in made.text
    assert "history: 20" in made.text
    told, lines = recipe.parse(made.text)
    assert check(told, lines, tmp_path) == []


def test_answers_are_chances() -> None:
    problem = prepare()
    batch = problem.test.slice(0, 2).batch()
    said = TASK.answer(Says(np.full(COUNT, 0.25))(batch), problem.axis, batch, 1)
    assert said == [{"probability": 0.25, "label": "no"}] * 2


def test_encoders_see_training_rows_only() -> None:
    from limbeck.models.sparse_logistic import SparseLogistic

    encoder: Encoder = SparseLogistic().encoder(prepare())
    names = encoder["user"].id_names
    assert {name for name in names if name.startswith("user=")} <= {f"user={u}" for u in USER[PART == 0]}


def test_rows_of_another_file_bring_their_features(tmp_path: Path) -> None:
    from limbeck.bind import bind, problem_of

    shop(tmp_path)
    (tmp_path / "more.csv").write_text("who,what,price,stayed\nu1,i2,5,0.5\nstranger,i3,6,0.1\n")
    more = RECIPE.replace(
        "  path: rows.csv\n", "  path: rows.csv\n  unlabelled: [{path: more.csv, roles: {user: who, item: what}}]\n"
    )
    told, _ = recipe.parse(more)
    problem = problem_of(bind(told, tmp_path), told.protocols[0], 0)
    assert problem.unlabelled is not None
    found = problem.unlabelled
    assert [list(found.column(name)) for name in ("user", "price", "stayed")] == [
        ["u1", "stranger"],
        [5, 6],
        [0.5, 0.1],
    ]
    assert found.table.column("clicked").null_count == 2
