"""Decision trees as tensors: grown by scikit-learn or LightGBM, asked by torch, and exported as ONNX's own trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.types import Array

AT_ONCE = 1 << 16
"""Rows times trees that descend at once: what the cache of a processor holds."""


@dataclass(frozen=True)
class Tree:
    """One tree: rows where `x[feature] <= threshold` go left. Split 0 is the root; a tree may be one leaf.

    Args:
        feature: column of every split, int64 (S,).
        threshold: float32 (S,), for features of float32.
        left, right: int64 (S,); a child of 0 or more is a split, one below is the leaf `~child`.
        value: what every leaf says, float32 (leaves, W).
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    value: Array


def rounded_down(threshold: Array) -> Array:
    """The largest float32 that is no larger: `x <= threshold` then says the same of every float32 x.

    >>> rounded_down(np.array([0.1])).item() <= 0.1 < float(np.float32(0.1))
    True
    """
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


def of_scikit_learn(grown: Any, *, smoothing: float = 0.0, share: float = 1.0) -> Tree:
    """A regression tree of scikit-learn, whose leaves say means of targets.

    Args:
        grown: its `tree_`.
        smoothing: rows of the tree's overall mean that every leaf is thought to hold besides its own, 0 or
            more; with some, no leaf says exactly 0 or 1.
        share: what the leaves are multiplied by, such as 1 / trees in a forest.

    Source: m-estimates of leaves: Provost and Domingos 2003, "Tree induction for probability-based ranking".
    """
    splits = grown.children_left >= 0
    place = np.where(splits, np.cumsum(splits) - 1, ~(np.cumsum(~splits) - 1))
    value = grown.value.reshape(len(splits), -1)
    rows = grown.weighted_n_node_samples[:, None]
    leaves = (value * rows + smoothing * value[:1]) / (rows + smoothing)
    return Tree(
        grown.feature[splits].astype(np.int64),
        rounded_down(grown.threshold[splits]),
        place[grown.children_left[splits]].astype(np.int64),
        place[grown.children_right[splits]].astype(np.int64),
        (leaves[~splits] * share).astype(np.float32),
    )


def of_lightgbm(text: str) -> list[Tree]:
    """The trees of LightGBM's text form (`Booster.model_to_string`), grown on numbers alone.

    Raises:
        UserError: a split is by category.
    """
    trees = []
    for block in text.split("\nTree=")[1:]:
        told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if told.get("num_cat", "0") != "0":
            raise UserError("a tree of this LightGBM model splits by category; trees are asked about numbers here")
        feature, left, right = (
            np.array(told.get(name, "").split(), np.int64) for name in ("split_feature", "left_child", "right_child")
        )
        threshold, value = (np.array(told.get(name, "").split(), np.float64) for name in ("threshold", "leaf_value"))
        trees.append(Tree(feature, rounded_down(threshold), left, right, value.astype(np.float32)[:, None]))
    return trees


def _descend(  # noqa: PLR0913  # an operator takes tensors, not objects
    features: Tensor,
    feature: Tensor,
    threshold: Tensor,
    left: Tensor,
    right: Tensor,
    value: Tensor,
    splits: Tensor,
    leaves: Tensor,
    outputs: int,
    number: int,  # noqa: ARG001  # which trees of a module these are, for `translations`
) -> Tensor:
    """What the leaves that rows come to say, added up, (B, outputs)."""
    first, last = splits[:-1], splits[1:]
    root = torch.where(last > first, first, ~leaves[:-1])
    below, rows, width = torch.cat([left, right]), len(features), value.shape[1]
    said = value.new_zeros((rows, outputs))
    size = max(1, AT_ONCE // max(1, rows)) * (outputs // width)
    for start in range(0, len(root), size):
        node = root[start : start + size].repeat(rows)
        while (inner := node >= 0).any():
            here = node.clamp(min=0)
            asked = features.gather(1, feature.index_select(0, here).view(rows, -1)).view(-1)
            goes_right = ~(asked <= threshold.index_select(0, here))
            node = torch.where(inner, below.index_select(0, here + len(left) * goes_right), node)
        said += value.index_select(0, ~node).view(rows, -1, outputs).sum(1)
    return said


def _shape(features: Tensor, *rest: Any) -> Tensor:
    """Of what `_descend` says, for exporters."""
    return features.new_empty(features.shape[0], rest[-2])


# Not `torch.library.custom_op`, whose first call imports the whole compiler: two seconds.
_OPERATORS: Any = torch.library.Library("limbeck", "DEF")  # type: ignore[no-untyped-call]  # torch's own
_OPERATORS.define(
    "trees(Tensor features, Tensor feature, Tensor threshold, Tensor left, Tensor right, Tensor value, Tensor splits,"
    " Tensor leaves, int outputs, int number) -> Tensor"
)
_OPERATORS.impl("trees", _descend, "CompositeExplicitAutograd")
torch.library.register_fake("limbeck::trees", _shape, lib=_OPERATORS)


class Grown(nn.Module):
    """A module whose buffers have the lengths that fitting gives them, such as trees or kept rows."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
        for name, buffer in list(self._buffers.items()):
            if buffer is not None and prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Trees(Grown):
    """The sum of what trees say. Before they are grown, it says 0.

    Trees say one number for each output; or one alone, the first tree for output 0, the second for 1 and so
    on round and round, as boosting grows them.

    Args:
        outputs: C.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    splits: Tensor
    leaves: Tensor
    bias: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(0))
        self.register_buffer("value", torch.zeros(1, outputs))
        self.register_buffer("splits", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("leaves", torch.tensor([0, 1]))
        self.register_buffer("bias", torch.zeros(outputs))
        self.number = 0

    def grow(self, trees: Sequence[Tree], bias: Array | None = None) -> None:
        """Take these trees.

        Args:
            trees: at least one, all of one width W: C, or 1 for a multiple of C trees.
            bias: what is added to their sum, (C,); none for 0.
        """
        splits = np.concatenate([[0], np.cumsum([len(tree.feature) for tree in trees])])
        leaves = np.concatenate([[0], np.cumsum([len(tree.value) for tree in trees])])

        def moved(children: Array, at: int) -> Array:
            return np.where(children >= 0, children + splits[at], children - leaves[at])

        state = {
            "feature": np.concatenate([tree.feature for tree in trees]),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "left": np.concatenate([moved(tree.left, at) for at, tree in enumerate(trees)]),
            "right": np.concatenate([moved(tree.right, at) for at, tree in enumerate(trees)]),
            "value": np.concatenate([tree.value for tree in trees]),
            "splits": splits,
            "leaves": leaves,
            "bias": np.zeros(len(self.bias), np.float32) if bias is None else bias.astype(np.float32),
        }
        self.load_state_dict({name: torch.from_numpy(held) for name, held in state.items()})

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) of float32 to sums (B, C)."""
        shape = (self.feature, self.threshold, self.left, self.right, self.value, self.splits, self.leaves)
        said: Tensor = torch.ops.limbeck.trees(features, *shape, len(self.bias), self.number)
        return said + self.bias

    def __iter__(self) -> Iterator[Tree]:
        """The trees, each numbered by itself again."""
        held = {name: value.cpu().numpy() for name, value in self.state_dict().items()}
        for at in range(len(held["splits"]) - 1):
            own, leaf = slice(*held["splits"][at : at + 2]), slice(*held["leaves"][at : at + 2])
            left, right = (
                np.where(children >= 0, children - own.start, children + leaf.start)
                for children in (held["left"][own], held["right"][own])
            )
            yield Tree(held["feature"][own], held["threshold"][own], left, right, held["value"][leaf])


def translations(module: nn.Module) -> dict[Callable[..., Any], Callable[..., Any]]:
    """How ONNX says the trees in a module: as `TreeEnsembleRegressor`, which holds them as attributes."""
    found = [inner for inner in module.modules() if isinstance(inner, Trees)]
    for number, trees in enumerate(found):
        trees.number = number

    def translated(features: Any, *rest: Any) -> Any:
        from onnxscript.values import Opset

        outputs, number = rest[-2:]
        return Opset("ai.onnx.ml", 3).TreeEnsembleRegressor(features, n_targets=outputs, **attributes(found[number]))

    return {torch.ops.limbeck.trees.default: translated} if found else {}


def attributes(trees: Trees) -> dict[str, Any]:
    """Of ONNX's `TreeEnsembleRegressor`: every tree's splits, then its leaves, numbered from 0."""
    said: dict[str, list[Any]] = {name: [] for name in (*NODES, *TARGETS)}
    outputs = len(trees.bias)
    for at, tree in enumerate(trees):
        splits, leaves = len(tree.feature), len(tree.value)
        nodes = np.arange(splits + leaves)
        left, right = (np.where(side >= 0, side, splits + ~side) for side in (tree.left, tree.right))
        nothing = np.zeros(leaves, np.int64)
        target = np.arange(outputs) if tree.value.shape[1] == outputs else np.array([at % outputs])
        for name, values in (
            ("nodes_treeids", np.full(len(nodes), at)),
            ("nodes_nodeids", nodes),
            ("nodes_featureids", np.concatenate([tree.feature, nothing])),
            ("nodes_values", np.concatenate([tree.threshold, nothing])),
            ("nodes_truenodeids", np.concatenate([left, nothing])),
            ("nodes_falsenodeids", np.concatenate([right, nothing])),
            ("target_treeids", np.full(tree.value.size, at)),
            ("target_nodeids", np.repeat(nodes[splits:], len(target))),
            ("target_ids", np.tile(target, leaves)),
            ("target_weights", tree.value.reshape(-1)),
        ):
            said[name] += values.tolist()
        said["nodes_modes"] += ["BRANCH_LEQ"] * splits + ["LEAF"] * leaves
    return {**said, "post_transform": "NONE", "aggregate_function": "SUM"}


NODES = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_truenodeids", "nodes_falsenodeids",
    "nodes_modes",
)  # fmt: skip
TARGETS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def rules(tree: Tree, names: Sequence[str], says: Callable[[Array], str]) -> str:
    """A tree in words, a line for every question and leaf.

    Args:
        tree: to be told.
        names: of the features.
        says: a leaf's numbers in words.

    >>> one = Tree(np.array([0]), np.array([2.5]), np.array([-1]), np.array([-2]), np.array([[0.25], [0.5]]))
    >>> print(rules(one, ["price"], lambda value: f"p {value[0]:.2f}"))
    price <= 2.5
      p 0.25
    price > 2.5
      p 0.50
    """
    lines: list[str] = []
    todo: list[tuple[str, int, int]] = [("", 0 if len(tree.feature) else -1, 0)]
    while todo:
        asked, node, depth = todo.pop()
        if asked:
            lines.append("  " * (depth - 1) + asked)
        if node < 0:
            lines.append("  " * depth + says(tree.value[~node]))
            continue
        name, threshold = names[tree.feature[node]], f"{tree.threshold[node]:.6g}"
        todo.append((f"{name} > {threshold}", int(tree.right[node]), depth + 1))
        todo.append((f"{name} <= {threshold}", int(tree.left[node]), depth + 1))
    return "\n".join(lines)
