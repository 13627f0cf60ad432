import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from limbeck.encoder import Encoder
from limbeck.model import Model
from limbeck.models.ease import Ease
from limbeck.task import Problem
from limbeck.types import Array, Axis, Rows

torch.set_num_threads(1)
USERS, ITEMS = 41, 7
SEEN = (np.random.default_rng(0).uniform(size=(USERS, ITEMS)) < 0.4).astype(np.float64)


def problem() -> Problem:
    histories = [[f"i{i}" for i in np.flatnonzero(row)] for row in SEEN]
    table = pa.table({"history": pa.array(histories, pa.list_(pa.string()))})
    rows = Rows(table, np.arange(USERS), "shop")
    return Problem(rows, rows, rows, Axis("item", tuple(f"i{i}" for i in range(ITEMS))), ("history",))


def fitted(l2: float = 3.0, target: Array | sparse.csr_matrix = SEEN, weight: Array | None = None) -> Model:
    family = Ease(l2=l2)
    encoder = family.encoder(problem())
    module = family.module(encoder, ITEMS)
    family.fit(module, encoder.rows(problem().train), target, weight)
    return Model("ease", {"l2": l2}, encoder, module, ITEMS)


def naive(l2: float, weight: Array | None = None) -> Array:
    """Column by column: a ridge regression of an item on all the others, by least squares on stacked rows."""
    scale = np.ones(USERS) if weight is None else np.sqrt(weight)
    answer = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = [i for i in range(ITEMS) if i != item]
        stacked = np.vstack([scale[:, None] * SEEN[:, others], np.sqrt(l2) * np.eye(ITEMS - 1)])
        wanted = np.concatenate([scale * SEEN[:, item], np.zeros(ITEMS - 1)])
        answer[others, item] = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
    return answer


@pytest.mark.parametrize("l2", [0.5, 3.0, 100.0])
def test_every_column_is_a_ridge_regression_on_the_other_items(l2: float) -> None:
    found = fitted(l2).module.state_dict()["weight"].numpy()
    np.testing.assert_allclose(found, naive(l2), rtol=1e-4, atol=1e-6)
    assert not np.diag(found).any()


def test_weights_of_rows_count_as_so_many_rows() -> None:
    weight = np.random.default_rng(1).uniform(0, 3, USERS)
    found = fitted(2.0, weight=weight).module.state_dict()["weight"].numpy()
    np.testing.assert_allclose(found, naive(2.0, weight), rtol=1e-4, atol=1e-6)
    twice = fitted(2.0, weight=np.full(USERS, 1.0))
    assert torch.equal(twice.module.state_dict()["weight"], fitted(2.0).module.state_dict()["weight"])


def test_sparse_and_dense_histories_fit_the_same() -> None:
    whole = fitted(target=sparse.csr_matrix(SEEN)).module.state_dict()["weight"]
    assert torch.equal(whole, fitted(target=SEEN).module.state_dict()["weight"])


def test_scores_are_the_history_times_the_matrix() -> None:
    model = fitted()
    said = model(problem().train.batch())["scores"]
    np.testing.assert_allclose(said, SEEN @ naive(3.0), rtol=1e-4, atol=1e-5)


def test_unknown_items_repeats_and_order_change_nothing() -> None:
    model = fitted()
    table = pa.table({"history": [["i1", "i4"], ["i4", "i1", "i1", "never"], [], ["never"]]})
    said = model(Rows(table, np.arange(4), "shop").batch())["scores"]
    np.testing.assert_allclose(said[0], said[1], rtol=1e-6)
    assert not said[2:].any()


def test_soft_targets_are_matched_by_the_histories_under_a_zero_diagonal() -> None:
    """Every column by itself: ridge regression on all items but that one."""
    draw = np.random.default_rng(3)
    seen = (draw.random((60, 9)) < 0.4).astype(float)
    seen[seen.sum(1) == 0, 0] = 1
    soft = draw.random((60, 9))
    padded = np.zeros((60, 9), np.int64)
    for row in range(60):
        items = np.flatnonzero(seen[row])
        padded[row, : len(items)] = items + 2
    family = Ease(l2=5.0)
    module = family.module(Encoder([]), 9)
    family.fit(module, {"history": padded}, soft, None)
    found = module.state_dict()["weight"].numpy()
    for item in range(9):
        others = [i for i in range(9) if i != item]
        x = seen[:, others]
        wanted = np.linalg.solve(x.T @ x + 5.0 * np.eye(8), x.T @ soft[:, item])
        np.testing.assert_allclose(found[others, item], wanted, atol=1e-5)
        assert found[item, item] == 0
