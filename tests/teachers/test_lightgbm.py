import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from limbeck.errors import UserError
from limbeck.task import Problem
from limbeck.teachers.lightgbm import Lightgbm
from limbeck.testing import check_teacher
from limbeck.types import Axis, Rows

NAMES = ["price", "stock", "age"]
X = np.random.default_rng(0).normal(size=(200, 3))


def problem(classes=("no", "yes")):
    rows = Rows(pa.table({**{n: X[:, i] for i, n in enumerate(NAMES)}, "title": ["a"] * 200}), np.arange(200), "shop")
    return Problem(rows, rows, rows, Axis("label", classes), tuple(NAMES))


def grow(folder, classes=2, names=None, **settings):
    target = np.digitize(X[:, 0] + X[:, 1], np.linspace(-0.5, 0.5, classes - 1))
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 5, **settings}
    booster = lightgbm.train(settings, lightgbm.Dataset(X, target, feature_name=names or NAMES), 8)
    booster.save_model(folder / "m.txt")
    return booster


def softmax(logits):
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "binary"},
        {"objective": "binary", "sigmoid": 2.0},
        {"objective": "cross_entropy"},
        {"objective": "binary", "boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
    ],
)
def test_two_classes_have_the_probability_that_lightgbm_predicts(tmp_path, settings):
    booster = grow(tmp_path, **settings)
    teacher = Lightgbm("m.txt").open(problem(), tmp_path)
    said = teacher(problem().test.batch())
    assert np.allclose(softmax(said["logits"])[:, 1], booster.predict(X), atol=1e-6)
    assert (said["logits"][:, 0] == 0).all()
    check_teacher(teacher, problem().test.slice(0, 9))


def test_several_classes_have_their_raw_scores_in_the_tasks_order(tmp_path):
    booster = grow(tmp_path, classes=3, objective="multiclass", num_class=3)
    raw = booster.predict(X, raw_score=True)
    asked = problem(("a", "b", "c"))
    assert np.allclose(Lightgbm("m.txt").open(asked, tmp_path)(asked.test.batch())["logits"], raw, atol=1e-6)
    turned = Lightgbm("m.txt", classes=("c", "a", "b")).open(asked, tmp_path)
    assert np.allclose(turned(asked.test.batch())["logits"], raw[:, [1, 2, 0]], atol=1e-6)


def test_features_may_be_named_by_the_recipe(tmp_path):
    booster = grow(tmp_path, names=["x0", "x1", "x2"])
    with pytest.raises(UserError, match="no column 'x0', 'x1', 'x2'"):
        Lightgbm("m.txt").open(problem(), tmp_path)
    teacher = Lightgbm("m.txt", features=("price", "stock", "age")).open(problem(), tmp_path)
    raw = booster.predict(X, raw_score=True)
    assert np.allclose(teacher(problem().test.batch())["logits"][:, 1], raw, atol=1e-6)
    swapped = Lightgbm("m.txt", features=("stock", "price", "age")).open(problem(), tmp_path)
    assert swapped.fingerprint != teacher.fingerprint


def test_what_does_not_fit_is_said_at_once(tmp_path):
    grow(tmp_path)
    with pytest.raises(UserError, match="axis 1 of the answer is 1, not 3, the labels of the task"):
        Lightgbm("m.txt").open(problem(("a", "b", "c")), tmp_path)
    with pytest.raises(UserError, match="unknown to the task: 'maybe'"):
        Lightgbm("m.txt", classes=("no", "maybe")).open(problem(), tmp_path)
    with pytest.raises(UserError, match="reads 3 features, 'features' names 1"):
        Lightgbm("m.txt", features=("price",)).open(problem(), tmp_path)
    with pytest.raises(UserError, match="column 'title' holds text"):
        Lightgbm("m.txt", features=("price", "stock", "title")).open(problem(), tmp_path)
    with pytest.raises(UserError, match="no file"):
        Lightgbm("none.txt").open(problem(), tmp_path)


@pytest.mark.parametrize("objective", ["regression", "multiclassova"])
def test_raw_scores_that_are_no_logits_are_refused(tmp_path, objective):
    grow(tmp_path, objective=objective, **({"num_class": 2} if objective == "multiclassova" else {}))
    with pytest.raises(UserError, match=f"trained for '{objective}'; its raw scores are no logits"):
        Lightgbm("m.txt").open(problem(), tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(UserError, match="is no LightGBM text file"):
        Lightgbm("m.txt").open(problem(), tmp_path)


def test_a_file_cut_short_anywhere_is_refused_before_lightgbm_dies_of_it(tmp_path):
    grow(tmp_path)
    text = (tmp_path / "m.txt").read_bytes()
    end = text.index(b"end of trees") + len(b"end of trees")
    for cut in range(1, end, 61):
        (tmp_path / "m.txt").write_bytes(text[:cut])
        with pytest.raises(UserError, match=r"is no LightGBM text file|is damaged or cut short"):
            Lightgbm("m.txt").open(problem(), tmp_path)
    (tmp_path / "m.txt").write_bytes(text[:end])
    whole = Lightgbm("m.txt").open(problem(), tmp_path)
    assert whole(problem().test.batch())["logits"].shape == (200, 2)


def test_a_teacher_on_one_thread_answers_the_same(tmp_path, monkeypatch):
    grow(tmp_path)
    teacher = Lightgbm("m.txt").open(problem(), tmp_path)
    alone, asked, used = teacher.on_threads(1), problem().test.batch(), []
    predict = lightgbm.Booster.predict
    monkeypatch.setattr(lightgbm.Booster, "predict", lambda *a, **k: used.append(k["num_threads"]) or predict(*a, **k))
    assert np.array_equal(alone(asked)["logits"], teacher(asked)["logits"])
    assert used == [1, 0]
    assert alone.fingerprint == teacher.fingerprint
