"""New rows of a table without labels, drawn cell by cell given the row's other cells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from limbeck.cells import Cells, as_rows, cells
from limbeck.errors import UserError
from limbeck.types import Array, Rows


@dataclass(frozen=True)
class Gibbs:
    """Rows from about the distribution of training rows, for a teacher to label.

    Chains begin at training rows; in each round every column is drawn again given the others: a tree that tells
    the column from the others leads to a leaf, and the cell of one of the leaf's training rows is taken. So every
    cell is a real one, and columns stay as dependent as a tree can see.

    Args:
        count: how many rows to make.
        seed: equal seeds make equal rows.
        rounds: over all columns; more go further from the training rows.
        leaf: training rows a leaf has at least.

    Source: Gibbs sampling for distillation: Fakoor et al. 2020 (FAST-DAD), whose conditionals are a network's;
    conditionals by trees: Reiter 2005.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    count: int
    seed: int = 0
    rounds: int = 3
    leaf: int = 10

    def __post_init__(self) -> None:
        if min(self.count, self.rounds, self.leaf) < 1:
            raise UserError(
                f"gibbs: count is {self.count}, rounds {self.rounds}, leaf {self.leaf}; at least 1 each was wanted"
            )

    def make(self, rows: Rows) -> Rows:
        """Rows with the same columns and roles, of which only the features are filled."""
        draw = np.random.Generator(np.random.PCG64(self.seed))
        known = cells(rows)
        conditionals = {name: self._conditional(known, name) for name in known.names}
        made = known.take(draw.integers(0, len(known), self.count))
        for _ in range(self.rounds):
            for name in known.names:
                made = _redrawn(made, name, conditionals[name], known, draw)
        return as_rows(made, rows, "gibbs", asdict(self))

    def _conditional(self, known: Cells, name: str) -> Conditional:
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        kind = DecisionTreeRegressor if name in known.numbers else DecisionTreeClassifier
        tree = kind(min_samples_leaf=min(self.leaf, len(known)), random_state=0)
        target = np.nan_to_num(known.numbers[name]) if name in known.numbers else known.codes[name]
        others = _others(known, name)
        leaves = tree.fit(others, target).apply(others)
        order = np.argsort(leaves, kind="stable")
        ids, starts, counts = np.unique(leaves[order], return_index=True, return_counts=True)
        return Conditional(tree, order, ids, starts, counts)


@dataclass(frozen=True)
class Conditional:
    """A column given the others: a tree, and which training rows lie in which leaf.

    Args:
        tree: fitted.
        order: int64 (N,), training rows leaf by leaf.
        ids, starts, counts: of the leaves, (leaves,): their numbers, and where their rows stand in `order`.
    """

    tree: Any
    order: Array
    ids: Array
    starts: Array
    counts: Array

    def draw(self, others: Array, draw: np.random.Generator) -> Array:
        """A training row of every row's leaf, int64 (M,)."""
        leaf = np.searchsorted(self.ids, self.tree.apply(others))
        return self.order[self.starts[leaf] + draw.integers(0, self.counts[leaf])]


def _others(held: Cells, name: str) -> Array:
    """All columns but one, (N, D): missing numbers as 0, categories by position; a constant for none."""
    columns = [np.nan_to_num(v) for k, v in held.numbers.items() if k != name]
    columns += [v for k, v in held.codes.items() if k != name]
    return np.stack(columns, 1).astype(np.float64) if columns else np.zeros((len(held), 1))


def _redrawn(made: Cells, name: str, given: Conditional, known: Cells, draw: np.random.Generator) -> Cells:
    row = given.draw(_others(made, name), draw)
    if name in made.numbers:
        return Cells({**made.numbers, name: known.numbers[name][row]}, made.codes, made.values)
    return Cells(made.numbers, {**made.codes, name: known.codes[name][row]}, made.values)
