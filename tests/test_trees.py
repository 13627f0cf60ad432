"""Trees as tensors answer as those who grew them do, in torch and in ONNX."""

from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from limbeck.errors import UserError
from limbeck.graph import has_int8_form, to_onnx
from limbeck.trees import Tree, Trees, of_lightgbm, of_scikit_learn, rounded_down, rules
from limbeck.types import Array

RANDOM = np.random.default_rng(0)


def rows(count: int) -> Array:
    """Numbers, some of few values, many of which lie on a threshold exactly."""
    made = RANDOM.normal(size=(count, 9)).astype(np.float32)
    made[:, 3:6] = np.round(made[:, 3:6], 1)
    made[:, 6:] = RANDOM.integers(0, 4, (count, 3))
    return made


LEARN, JUDGE = rows(3000), rows(5000)
LABEL = (LEARN[:, 0] + LEARN[:, 4] * LEARN[:, 6] > 0).astype(int) + (LEARN[:, 7] == 2)


class Alone(nn.Module):
    """Trees as a module whose signals have names."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trees = Trees(outputs)

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"values": self.trees(features)}


def planted(trees: list[Tree], outputs: int, bias: Array | None = None) -> Alone:
    module = Alone(outputs).eval()
    module.trees.grow(trees, bias)
    return module


def answers(module: Alone, features: Array) -> tuple[Array, Array]:
    """By torch and by ONNX Runtime."""
    with torch.inference_mode():
        said: Array = module(torch.from_numpy(features))["values"].numpy()
    file = onnxruntime.InferenceSession(to_onnx(module, {"features": features[:3]}))
    return said, file.run(["values"], {"features": features})[0]


def held(module: Alone, peer: Array) -> None:
    """To 1e-5, on every one of 5,000 rows where 99.9% would do."""
    for said in answers(module, JUDGE):
        np.testing.assert_allclose(said, peer, atol=1e-5)


@pytest.mark.slow
def test_a_forest_says_scikit_learns_probabilities() -> None:
    forest = RandomForestClassifier(20, random_state=0).fit(LEARN, LABEL)
    trees = [of_scikit_learn(one.tree_, share=1 / 20) for one in forest.estimators_]
    held(planted(trees, 3), forest.predict_proba(JUDGE))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_boosted_trees_say_lightgbms_margins(classes: int) -> None:
    how = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": 3}
    data = lightgbm.Dataset(LEARN, np.minimum(LABEL, classes - 1))
    grown = lightgbm.train({**how, "verbose": -1, "num_threads": 1}, data, 40)
    peer = np.asarray(grown.predict(JUDGE, raw_score=True)).reshape(len(JUDGE), -1)
    held(planted(of_lightgbm(grown.model_to_string()), peer.shape[1]), peer)


@pytest.mark.slow
def test_numbers_of_several_outputs() -> None:
    wanted = np.stack([LEARN[:, 0] * 50, LEARN[:, 1] + LEARN[:, 8]], 1)
    forest = RandomForestRegressor(5, max_depth=6, random_state=0).fit(LEARN, wanted)
    bias = np.array([3.0, -4.0])
    trees = [of_scikit_learn(one.tree_, share=1 / 5) for one in forest.estimators_]
    for said in answers(planted(trees, 2, bias), JUDGE):
        np.testing.assert_allclose(said, forest.predict(JUDGE) + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_onnx_has_trees_of_its_own() -> None:
    """One operator that servers know, and no tensor of the trees beside it."""
    tree = DecisionTreeRegressor(max_depth=3).fit(LEARN, LABEL)
    file = to_onnx(planted([of_scikit_learn(tree.tree_)], 1), {"features": LEARN[:3]})
    graph = onnx.load_from_string(file).graph
    assert "TreeEnsembleRegressor" in [node.op_type for node in graph.node]
    assert sum(np.prod(held.dims) for held in graph.initializer) < 5
    assert not has_int8_form(file)


def test_a_tree_of_one_leaf() -> None:
    lone = Tree(*(np.zeros(0, np.int64),) * 4, np.array([[0.25, 0.75]], np.float32))
    with torch.inference_mode():
        said = planted([lone, lone], 2)(torch.zeros(3, 9))["values"]
    assert said.tolist() == [[0.5, 1.5]] * 3


def test_before_it_is_grown_it_says_nothing() -> None:
    with torch.inference_mode():
        assert Trees(3)(torch.ones(2, 4)).tolist() == [[0.0] * 3] * 2


def test_saved_and_loaded_and_taken_apart_it_is_the_same() -> None:
    forest = RandomForestRegressor(4, max_depth=4, random_state=0).fit(LEARN, LABEL)
    trees = [of_scikit_learn(one.tree_) for one in forest.estimators_]
    one, other = planted(trees, 1), Alone(1)
    other.load_state_dict(one.state_dict())
    for tree, back in zip(trees, other.trees, strict=True):
        for name in ("feature", "threshold", "left", "right", "value"):
            np.testing.assert_array_equal(getattr(tree, name), getattr(back, name))


def test_a_threshold_between_two_floats_parts_the_same_rows() -> None:
    near = np.array([0.1, 0.5, 1e-40, -0.3, 1e300, -1e300])
    low = rounded_down(near)
    assert (low <= near).all()
    assert (np.nextafter(low[:4], np.float32(np.inf)).astype(np.float64) > near[:4]).all()
    assert low[4] == np.finfo(np.float32).max


def test_smoothed_leaves_stand_between_their_own_mean_and_that_of_all() -> None:
    grown = DecisionTreeRegressor(max_depth=2, random_state=0).fit(LEARN, LABEL == 1).tree_
    plain, smooth = of_scikit_learn(grown), of_scikit_learn(grown, smoothing=50.0)
    count = grown.n_node_samples[grown.children_left < 0]
    by_hand = (plain.value[:, 0] * count + 50 * np.mean(LABEL == 1)) / (count + 50)
    np.testing.assert_allclose(smooth.value[:, 0], by_hand, rtol=1e-5)


def test_splits_by_category_are_refused() -> None:
    data = lightgbm.Dataset(LEARN[:, 6:7], LABEL > 0, categorical_feature=[0], params={"min_data_per_group": 1})
    how: dict[str, Any] = {"objective": "binary", "verbose": -1, "min_data_per_group": 1, "cat_smooth": 1}
    grown = lightgbm.train(how, data, 2)
    with pytest.raises(UserError, match="splits by category"):
        of_lightgbm(grown.model_to_string())


def test_rules_lead_where_the_tree_does() -> None:
    grown = DecisionTreeRegressor(max_depth=3, random_state=0).fit(LEARN, LABEL)
    text = rules(of_scikit_learn(grown.tree_), [f"f{i}" for i in range(9)], lambda value: f"{value[0]:.6f}")
    for row, wanted in zip(JUDGE[:50], grown.predict(JUDGE[:50]), strict=True):
        depth, said = 0, ""
        for line in text.splitlines():
            if (len(line) - len(line.lstrip())) // 2 != depth:
                continue
            words = line.split()
            if len(words) == 1:
                said = words[0]
                break
            number = row[int(words[0][1:])]
            if (number <= float(words[2])) == (words[1] == "<="):
                depth += 1
        assert float(said) == pytest.approx(wanted, abs=1e-5)
