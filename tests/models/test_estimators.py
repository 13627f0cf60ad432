"""The families that libraries fit: what they answer beside their library, soft targets, odd rows, and their ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVR, LinearSVR
from sklearn.tree import DecisionTreeClassifier

from limbeck import parts
from limbeck.artifact import Artifact, Column
from limbeck.bind import bind, problem_of
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.estimator import seed
from limbeck.graph import to_onnx
from limbeck.model import Model
from limbeck.parity import Proof
from limbeck.recipe import read
from limbeck.report import Report
from limbeck.task import Problem
from limbeck.types import Array, Axis, Batch, Predictor, Rows
from limbeck.verbs.export import About, export

SMALL: Mapping[str, Mapping[str, Any]] = {
    "bagging": {"member": {"model": "decision_tree", "depth": 5, "leaf_rows": 4}, "count": 4},
    "decision_tree": {"depth": 5, "leaf_rows": 4},
    "gradient_boosting": {"rounds": 15, "leaf_rows": 4},
    "linear_regression": {},
    "logistic_regression": {},
    "naive_bayes": {},
    "nearest_neighbours": {"neighbours": 7},
    "random_forest": {"trees": 12, "leaf_rows": 2},
    "stacking": {"members": [{"model": "logistic_regression"}, {"model": "decision_tree"}], "folds": 3},
    "support_vector_machine": {"rows": 150},
    "voting": {},
}
FAMILIES = sorted(SMALL)
KINDS = {"linear": {"kernel": "linear"}, "gaussian": {"kernel": "gaussian"}}


def table(classes: int = 2, rows: int = 400, seed: int = 0) -> tuple[Rows, Array]:
    """Numbers and a category, and the shares of the classes that go with them."""
    random = np.random.default_rng(seed)
    price, age = random.normal(20, 5, rows), random.integers(18, 80, rows)
    colour = random.integers(0, 4, rows)
    logits = np.stack(
        [(price - 20) / 3 * (c - classes / 2) + np.sin(age / 9 + c) + (colour == c) for c in range(classes)]
    )
    shares = np.exp(logits - logits.max(0))
    made = {"price": price, "age": age, "colour": [("red", "blue", "green", "grey")[c] for c in colour]}
    roles = {"features": ("price", "age", "colour")}
    return Rows(pa.table(made), np.arange(rows), f"shop {seed}", roles), (shares / shares.sum(0)).T


def problem(rows: Rows, classes: int) -> Problem:
    return Problem(rows, rows, rows, Axis("label", tuple(f"class {c}" for c in range(classes))), rows.names)


def fitted(name: str, rows: Rows, target: Array, weight: Array | None = None, /, **settings: Any) -> Model:
    return fitted_to(problem(rows, target.shape[1]), name, target, weight, **{**SMALL[name], **settings})


def fitted_to(made: Problem, name: str, target: Array, weight: Array | None = None, /, **settings: Any) -> Model:
    family = parts.make("models", name, settings)
    encoder: Encoder = family.encoder(made)
    torch.manual_seed(0)
    module = family.module(encoder, target.shape[1])
    family.fit(module, encoder.rows(made.train), target, weight)
    module.eval()
    return Model(name, settings, encoder, module, target.shape[1])


def features(model: Model, rows: Rows) -> Array:
    found: Array = model.encoder.rows(rows)["features"]
    return found


def shares(model: Model, rows: Rows) -> Array:
    """Softmax of its logits."""
    logits = np.asarray(model(rows.batch(model.reads))["logits"], np.float64)
    likely = np.exp(logits - logits.max(1, keepdims=True))
    return likely / likely.sum(1, keepdims=True)


def odd(rows: Rows) -> Batch:
    """Values nobody has seen, missing ones, the largest numbers there are."""
    columns = {
        "price": np.array([np.nan, 1e300, -1e300, np.inf, -np.inf, -0.0, 3.5e38, 5e-324]),
        "age": np.array([np.nan] * 4 + [1e300, 0.0, -1.0, 1e18]),
        "colour": ["purple", "", "red", "\0", "红", "red" * 999, " red", "blue"],
    }
    return Batch(columns, rows.slice(0, 8).batch(("price",)).key)


def hot(classes: int, label: Array) -> Array:
    return np.eye(classes)[label]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_onnx_file_says_what_the_family_says(name: str) -> None:
    rows, soft = table(2)
    model = fitted(name, rows, soft)
    inputs = model.encoder(rows.slice(0, 3).batch(model.reads))
    file = onnxruntime.InferenceSession(to_onnx(model.module, inputs))
    for batch in (table(2, seed=1)[0].batch(model.reads), odd(rows)):
        said = file.run(["logits"], {"features": model.encoder(batch)["features"]})[0]
        np.testing.assert_allclose(said, model(batch)["logits"], atol=2e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_soft_targets_teach_more_than_labels_drawn_from_them(name: str) -> None:
    """By how far its shares are from the truth on rows nobody has seen, over four draws."""
    rows, soft = table(2, 100)
    other, truth = table(2, seed=1)
    draws = np.random.default_rng(5).random((4, 100)) < soft[:, 1]
    targets = [soft, *(hot(2, draw.astype(int)) for draw in draws)]
    softly, *hardly = (np.abs(shares(fitted(name, rows, target), other) - truth).mean() for target in targets)
    assert softly < 0.97 * np.mean(hardly)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_soft_target_is_not_its_likeliest_class(name: str) -> None:
    rows, soft = table(3)
    softened = 0.5 * soft + 0.5 / 3  # the likeliest class stays the same
    assert (softened.argmax(1) == soft.argmax(1)).all()
    sure, unsure = (shares(fitted(name, rows, target), rows).max(1).mean() for target in (soft, softened))
    assert sure > unsure + 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_are_learnt(name: str) -> None:
    rows, soft = table(2, 600)
    label = soft.argmax(1)
    other, truth = table(2, seed=1)
    said = shares(fitted(name, rows, hot(2, label)), other)
    assert roc_auc_score(truth.argmax(1), said[:, 1]) > 0.9


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_that_counts_for_nothing_is_as_if_it_were_not_there(name: str) -> None:
    """Both ways of not counting: no weight, and no target."""
    rows, soft = table(2)
    there = np.arange(len(rows)) < 250
    weighted = shares(fitted(name, rows, np.where(there[:, None], soft, 0.5), there.astype(float)), rows)
    untold = shares(fitted(name, rows, soft * there[:, None]), rows)
    np.testing.assert_allclose(weighted, untold, atol=1e-6)


@pytest.mark.parametrize("name", ["decision_tree", "logistic_regression", "naive_bayes", "linear_regression"])
def test_a_target_that_adds_to_less_counts_for_less(name: str) -> None:
    """As of rows without a label, of which the hard loss beside the teacher's has nothing to say."""
    rows, soft = table(2)
    mass = np.where(np.arange(len(rows)) % 3 == 0, 0.4, 1.0)
    less, weighted = fitted(name, rows, soft * mass[:, None]), fitted(name, rows, soft, mass)
    np.testing.assert_allclose(shares(less, rows), shares(weighted, rows), atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_odd_rows_are_answered(name: str) -> None:
    rows, soft = table(2)
    assert np.isfinite(fitted(name, rows, soft)(odd(rows))["logits"]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_columns_that_say_nothing_are_borne(name: str) -> None:
    """A constant one, one without a value, one with a value of its own in every row."""
    rows, soft = table(2, 200)
    more = rows.table.append_column("constant", pa.array(np.full(200, 7.0)))
    more = more.append_column("nothing", pa.nulls(200, pa.float64())).append_column("blank", pa.array([""] * 200))
    more = more.append_column("code", pa.array([f"c{i}" for i in range(200)]))
    roles = {"features": tuple(more.column_names)}
    model = fitted(name, Rows(more, rows.id, "odd", roles), soft)
    assert np.isfinite(model(Rows(more, rows.id, "odd", roles).batch(model.reads))["logits"]).all()


@pytest.mark.parametrize("count", [3, 60])
@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in ("naive_bayes", "voting")])
def test_where_no_column_says_anything_all_rows_get_the_mean(name: str, count: int) -> None:
    """Naive Bayes, and who asks it, shrinks towards equal shares instead."""
    empty = pa.table({"constant": np.full(count, 7.0), "nothing": pa.nulls(count, pa.float64())})
    rows = Rows(empty, np.arange(count), "nothing", {"features": ("constant", "nothing")})
    said = shares(fitted(name, rows, np.tile([0.3, 0.7], (count, 1))), rows)
    np.testing.assert_allclose(said, np.tile([0.3, 0.7], (count, 1)), atol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_class_that_no_row_has_is_unlikely_everywhere(name: str) -> None:
    rows, soft = table(2, 200)
    said = shares(fitted(name, rows, np.concatenate([soft, np.zeros((200, 1))], 1)), rows)
    assert np.isfinite(said).all()
    assert said[:, 2].max() < 0.02


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_one_class_are_learnt(name: str) -> None:
    rows, _ = table(2, 100)
    said = shares(fitted(name, rows, hot(2, np.ones(100, int))), rows)
    assert said[:, 1].min() > 0.95


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_no_distribution_is_refused(name: str) -> None:
    rows, soft = table(2, 50)
    with pytest.raises(UserError, match="take a loss such as kl"):
        fitted(name, rows, np.log(soft))
    with pytest.raises(UserError, match="no row has a target"):
        fitted(name, rows, 0 * soft)


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n in FAMILIES for k in KINDS if n == "support_vector_machine"])
def test_support_vector_regression_of_log_odds(name: str, kind: str) -> None:
    rows, soft = table(2, 120)
    model = fitted(name, rows, soft, **KINDS[kind], epsilon=0.05)
    seen = features(model, rows).astype(np.float64)
    odds = np.log(soft.clip(0.01, 0.99))
    if kind == "linear":
        peer = LinearSVR(C=1.0, epsilon=0.05, max_iter=5000, random_state=0)
    else:
        peer = SVR(C=1.0, epsilon=0.05, gamma="scale")
    peer.fit(seen, odds[:, 1] - odds[:, 0])
    said = np.asarray(model(rows.batch(model.reads))["logits"])
    np.testing.assert_allclose(said[:, 1] - said[:, 0], peer.predict(seen), atol=2e-2 if kind == "linear" else 2e-3)


def test_linear_regression_is_ridge_on_log_odds() -> None:
    rows, soft = table(3)
    model = fitted("linear_regression", rows, soft, l2=2.0)
    logs = np.log(soft.clip(0.01, 0.99))
    peer = Ridge(2.0).fit(features(model, rows), logs - logs.mean(1, keepdims=True))
    said = model(rows.batch(model.reads))["logits"]
    np.testing.assert_allclose(said, peer.predict(features(model, rows)), atol=1e-4)


def test_logistic_regression_is_scikit_learns_on_every_row_once_a_class() -> None:
    rows, soft = table(2)
    model = fitted("logistic_regression", rows, soft)
    seen = features(model, rows)
    peer = LogisticRegression(max_iter=2000)
    peer.fit(np.concatenate([seen, seen]), np.repeat([0, 1], len(rows)), sample_weight=soft.T.ravel())
    np.testing.assert_allclose(shares(model, rows), peer.predict_proba(seen), atol=1e-3)


def test_a_tree_of_labels_is_scikit_learns_by_gini() -> None:
    rows, soft = table(3)
    label = soft.argmax(1)
    model = fitted("decision_tree", rows, hot(3, label), smoothing=1e-9)
    torch.manual_seed(0)
    peer = DecisionTreeClassifier(max_depth=5, min_samples_leaf=4, random_state=seed())
    peer.fit(features(model, rows), label)
    other = table(3, seed=1)[0]
    np.testing.assert_allclose(shares(model, other), peer.predict_proba(features(model, other)), atol=1e-5)


def test_naive_bayes_joins_scikit_learns_two() -> None:
    rows, soft = table(2)
    label = soft.argmax(1)
    model = fitted("naive_bayes", rows, hot(2, label), spread=1e-9)
    seen = features(model, rows).astype(np.float64)
    two = np.isin(seen, (0, 1)).all(0)
    assert two.any()
    assert not two.all()
    normal, frequent = GaussianNB().fit(seen[:, ~two], label), BernoulliNB().fit(seen[:, two], label)
    joint = normal.predict_joint_log_proba(seen[:, ~two]) + frequent.predict_joint_log_proba(seen[:, two])
    joint -= np.log(np.bincount(label) / len(label))
    likely = np.exp(joint - joint.max(1, keepdims=True))
    np.testing.assert_allclose(shares(model, rows), likely / likely.sum(1, keepdims=True), atol=1e-4)


def test_neighbours_are_scikit_learns() -> None:
    rows, soft = table(2)
    label = soft.argmax(1)
    model = fitted("nearest_neighbours", rows, hot(2, label), smoothing=1e-9)
    peer = KNeighborsClassifier(7).fit(features(model, rows), label)
    other = table(2, seed=1)[0]
    off = np.abs(shares(model, other) - peer.predict_proba(features(model, other))).max(1)
    assert (off < 1e-5).mean() > 0.99  # where the seventh and the eighth are all but equally near, both count here


def test_boosting_of_soft_labels_is_lightgbms_own() -> None:
    import lightgbm

    rows, soft = table(2)
    model = fitted("gradient_boosting", rows, soft)
    how = {"objective": "cross_entropy", "learning_rate": 0.05, "min_data_in_leaf": 4, "verbose": -1, "num_threads": 1}
    seen = features(model, rows).astype(np.float64)
    peer = lightgbm.train(how, lightgbm.Dataset(seen, soft[:, 1]), 15)
    other = table(2, seed=1)[0]
    np.testing.assert_allclose(shares(model, other)[:, 1], peer.predict(features(model, other)), atol=1e-5)


def test_boosting_of_several_classes_labels_is_lightgbms_multiclass() -> None:
    import lightgbm

    rows, soft = table(3)
    label = soft.argmax(1)
    model = fitted("gradient_boosting", rows, hot(3, label))
    how = {"objective": "multiclass", "num_class": 3, "learning_rate": 0.05, "min_data_in_leaf": 4, "verbose": -1}
    peer = lightgbm.train({**how, "num_threads": 1}, lightgbm.Dataset(features(model, rows), label), 15)
    np.testing.assert_allclose(shares(model, rows), peer.predict(features(model, rows)), atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_draws_by_the_runs_seed(name: str) -> None:
    rows, soft = table(2, 120)
    assert fitted(name, rows, soft).fingerprint == fitted(name, rows, soft).fingerprint


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_a_shallow_tree_learns_from_a_boosted_teacher(load: Any) -> None:
    """Of 569 and 178 rows, half to learn from: a tree of depth 4 keeps 95% of the teacher's AUC on the others."""
    data = load()
    values, label = data.data.astype(np.float32), (data.target == 1).astype(int)
    order = np.random.default_rng(0).permutation(len(values))
    parts_ = [order[::2], order[1::2]]
    learn, judge = (
        Rows(pa.table({f"f{i}": values[p, i] for i in range(values.shape[1])}), p, "tables", {}) for p in parts_
    )
    learn, judge = (Rows(r.table, r.id, r.source, {"features": tuple(r.names)}) for r in (learn, judge))
    teacher = fitted("gradient_boosting", learn, hot(2, label[parts_[0]]), rounds=60)
    student = fitted("decision_tree", learn, shares(teacher, learn), depth=4, leaf_rows=4)
    aucs = [roc_auc_score(label[parts_[1]], shares(m, judge)[:, 1]) for m in (teacher, student)]
    assert aucs[1] >= 0.95 * aucs[0]


def test_a_tree_tells_its_rules() -> None:
    rows, soft = table(2)
    model = fitted("decision_tree", rows, soft, depth=2)
    told = parts.make("models", "decision_tree", model.settings).told(model.module, model.encoder, ("no", "yes"))
    lines = told["rules.txt"].splitlines()
    root = lines[0].split(" <= ")
    assert root[0] in ("price", "age", "colour=red", "colour=blue", "colour=green", "colour=grey")
    assert f"{root[0]} > {root[1]}" in lines
    # The leaf that the rules lead to is what the model says.
    values = {
        "price": 19.0,
        "age": 33.0,
        "colour=red": 1.0,
        "colour=blue": 0.0,
        "colour=green": 0.0,
        "colour=grey": 0.0,
    }
    depth, said = 0, ""
    for line in lines:
        indent = (len(line) - len(line.lstrip())) // 2
        if indent != depth:
            continue
        if " no " in f" {line.strip()}" and "%" in line:
            said = line.strip()
            break
        name, sign, threshold = line.strip().rsplit(" ", 2)
        if (values[name] <= float(threshold)) == (sign == "<="):
            depth += 1
    batch = Batch({"price": np.array([19.0]), "age": np.array([33]), "colour": ["red"]}, rows.slice(0, 1).batch(()).key)
    logits = np.asarray(model(batch)["logits"])[0]
    likely = np.exp(logits) / np.exp(logits).sum()
    assert said == f"no {likely[0]:.1%}, yes {likely[1]:.1%}"


def test_a_linear_model_tells_its_coefficients() -> None:
    rows, soft = table(2)
    model = fitted("logistic_regression", rows, soft)
    told = parts.make("models", "logistic_regression", {}).told(model.module, model.encoder, ("no", "yes"))
    lines = [line.split(",") for line in told["coefficients.csv"].splitlines()]
    assert lines[0] == ["feature", "yes"]
    by_name = {name: float(value) for name, value in lines[1:]}
    names = model.encoder.encodings[0].names  # type: ignore[attr-defined]  # Columns have names
    margin = by_name["(intercept)"] + features(model, rows) @ np.array([by_name[name] for name in names])
    np.testing.assert_allclose(1 / (1 + np.exp(-margin)), shares(model, rows)[:, 1], atol=1e-4)


@pytest.mark.parametrize(("name", "rows_kept"), [("nearest_neighbours", 60), ("support_vector_machine", 60)])
def test_rows_are_capped_and_said_so(name: str, rows_kept: int) -> None:
    rows, soft = table(2)
    model = fitted(name, rows, soft, rows=rows_kept)
    told = parts.make("models", name, model.settings).told(model.module, model.encoder, ("no", "yes"))
    assert f"{rows_kept} " in told["kept.txt"]
    assert "400 " in told["kept.txt"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bagging", {"member": {"depth": 3}}),
        ("decision_tree", {"depth": 0}),
        ("decision_tree", {"smoothing": 0.0}),
        ("gradient_boosting", {"leaves": 1}),
        ("gradient_boosting", {"row_share": 0.0}),
        ("linear_regression", {"clip": 0.5}),
        ("logistic_regression", {"inverse_l2": -1.0}),
        ("naive_bayes", {"spread": 0.0}),
        ("nearest_neighbours", {"rows": 0}),
        ("random_forest", {"features": 1.5}),
        ("stacking", {"folds": 1}),
        ("support_vector_machine", {"kernel": "cubic"}),
        ("voting", {"members": [{"model": "decision_tree"}]}),
        ("voting", {"members": [{"model": "decision_tree"}, {"model": "sparse_logistic"}]}),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, settings: Mapping[str, Any]) -> None:
    (setting,) = settings
    with pytest.raises(UserError, match=setting.removesuffix("s")):
        parts.make("models", name, dict(settings))


def test_voters_probabilities_are_averaged() -> None:
    rows, soft = table(3)
    members = [{"model": "logistic_regression"}, {"model": "decision_tree", "depth": 3}]
    alone = [fitted("logistic_regression", rows, soft), fitted("decision_tree", rows, soft, depth=3, leaf_rows=20)]
    mean = np.mean([shares(model, rows) for model in alone], 0)
    np.testing.assert_allclose(shares(fitted("voting", rows, soft, members=members), rows), mean, atol=1e-5)


def test_stacking_trusts_whom_it_should() -> None:
    """Of a good member and one that knows nothing, the good one decides."""
    rows, soft = table(2, 600)
    members = [{"model": "gradient_boosting"}, {"model": "decision_tree", "depth": 1, "leaf_rows": 300}]
    model = fitted("stacking", rows, soft, members=members)
    weight = np.abs(model.module.judge.head.weight.detach().numpy())
    assert weight[:, :2].sum() > 5 * weight[:, 2:].sum()


def test_bagged_members_are_not_alike() -> None:
    rows, soft = table(2)
    first, second, *_ = fitted("bagging", rows, soft).module.members
    tensor = torch.from_numpy(features(fitted("bagging", rows, soft), rows))
    assert not torch.equal(first(tensor)["logits"], second(tensor)["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random_forest", "logistic_regression", "stacking"])
def test_it_leaves_as_an_artifact(name: str, tmp_path: Path) -> None:
    """Under the same parity check as all; the contract names the columns; of trees int8 is refused in words."""
    rows, soft = table(2)
    model = fitted(name, rows, soft)
    other = table(2, seed=1)[0]
    label = soft.argmax(1)

    def judge(predictor: Predictor) -> float:
        return float(roc_auc_score(label, np.asarray(predictor(rows.batch(model.reads))["logits"])[:, 1]))

    proof = Proof(model.encoder.rows(other), judge, judge(model))
    about = About("behaviour", Axis("label", ("no", "yes")), Column.of(rows, rows.names), Report(task="behaviour"), "")
    done = export(model, tmp_path / name, proof=proof, about=about)
    artifact = Artifact.open(tmp_path / name)
    assert artifact.contract.reads == ("price", "age", "colour")
    assert artifact.check_golden() < 1e-4
    batch = odd(rows)
    np.testing.assert_allclose(artifact.predictor("fp32")(batch)["logits"], model(batch)["logits"], atol=2e-5)
    assert (tmp_path / name / "coefficients.csv").exists() == (name == "logistic_regression")
    if name == "random_forest":
        assert "as in models of trees" in str(done.parity["int8"].refused)


LEFT_OUT = dict.fromkeys(("user_id", "item_id", "movie_title", "zip_code"), "left_out")
REAL = {
    "behaviour-complete-journey": {},
    "behaviour-ml-100k": {"positive": 4, "rates": True, "columns": {**LEFT_OUT, "age": "number"}},
}
"""Recipe -> options, where a tree should read other columns than a deep model does."""


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_shallow_tree_of_a_boosted_teacher_on_real_rows(name: str) -> None:
    """A tree of depth 4 keeps 95% of the AUC, and both files say what library and model say."""
    recipe, _ = read(Path(__file__).parents[2] / "recipes" / f"{name}.yaml")
    bound = bind(recipe.model_copy(update={"options": REAL[name] or recipe.options}), Path())
    made = problem_of(bound, recipe.protocols[0], 0)
    label = bound.task.targets(made.train, made)["label"]
    teacher = fitted_to(made, "gradient_boosting", hot(2, label))
    student = fitted_to(made, "decision_tree", shares(teacher, made.train))
    aucs = [bound.task.judge(model, made.test, made).metrics["auc"] for model in (teacher, student)]
    assert aucs[0] > 0.75
    assert aucs[1] >= 0.95 * aucs[0]
    for model in (teacher, student):
        tensors = model.encoder.rows(made.test)
        file = onnxruntime.InferenceSession(to_onnx(model.module, {k: v[:3] for k, v in tensors.items()}))
        said = file.run(["logits"], tensors)[0]
        np.testing.assert_allclose(said, model(made.test.batch(model.reads))["logits"], atol=1e-5)
