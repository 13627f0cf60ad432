from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from limbeck.encoder import RESERVED
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.models.matrix_factorisation import Factors, MatrixFactorisation
from limbeck.task import Problem
from limbeck.types import Axis, Rows

torch.set_num_threads(1)
ITEMS = tuple(f"i{i}" for i in range(11))


def rows(users: list[str], histories: list[list[str]]) -> Rows:
    table = pa.table({"user": users, "history": pa.array(histories, pa.list_(pa.string()))})
    return Rows(table, np.arange(len(users)), "shop")


def train(count: int = 60) -> Rows:
    random = np.random.default_rng(0)
    histories = [[ITEMS[i] for i in random.permutation(11)[: random.integers(1, 7)]] for _ in range(count)]
    return rows([f"u{i}" for i in range(count)], histories)


def build(**settings: Any) -> tuple[Model, Factors, MatrixFactorisation]:
    settings = {"width": 4, "spread": 1.0, **settings}
    family = MatrixFactorisation(**settings)
    problem = Problem(train(), train(), train(), Axis("item", ITEMS), ("user", "history"))
    encoder = family.encoder(problem)
    torch.manual_seed(0)
    module = family.module(encoder, len(ITEMS))
    assert isinstance(module, Factors)
    return Model("matrix_factorisation", settings, encoder, module, len(ITEMS)), module, family


def finish(model: Model, family: MatrixFactorisation) -> None:
    tensors = {name: torch.from_numpy(value) for name, value in model.encoder.rows(train()).items()}
    family.finish(model.module, tensors)


def summary(module: Factors, histories: list[list[str]]) -> np.ndarray:
    """Mean and root-scaled sum of the vectors of the known items, and a 1; row by row."""
    table = module.item.weight.detach().double().numpy()
    made = []
    for history in histories:
        vectors = np.array([table[ITEMS.index(i) + RESERVED] for i in history if i in ITEMS]).reshape(
            -1, table.shape[1]
        )
        count = max(len(vectors), 1)
        made.append(np.concatenate([vectors.sum(0) / count, vectors.sum(0) / np.sqrt(count), [1.0]]))
    return np.array(made)


def test_scores_are_dot_products_and_item_biases() -> None:
    model, module, _ = build()
    with torch.no_grad():
        module.bias.copy_(torch.arange(11.0))
    said = model(train().batch())["scores"]
    users = sorted(train().column("user"))
    for row, user in enumerate(train().column("user")):
        vector = module.user.weight[users.index(user) + RESERVED].detach().numpy()
        wanted = module.item.weight[RESERVED:].detach().numpy() @ vector + np.arange(11)
        np.testing.assert_allclose(said[row], wanted, rtol=1e-5, atol=1e-5)


def test_a_known_user_is_answered_whatever_the_history() -> None:
    model, _, family = build()
    finish(model, family)
    said = model(rows(["u3", "u3"], [["i1"], []]).batch())["scores"]
    assert np.array_equal(said[0], said[1])


@pytest.mark.parametrize("l2", [1e-6, 3e-3, 1.0])
def test_the_fold_in_is_a_ridge_regression_of_the_users_vectors_on_their_histories(l2: float) -> None:
    model, module, family = build(fold_l2=l2)
    finish(model, family)
    x = summary(module, [list(h) for h in (train().column("history")[i] for i in range(60))])
    users = sorted(train().column("user"))
    y = module.user.weight.detach().double().numpy()[[users.index(u) + RESERVED for u in train().column("user")]]
    ridge = l2 * np.mean((x**2).sum(0))
    stacked = np.vstack([x, np.sqrt(ridge) * np.eye(x.shape[1])])
    wanted = np.linalg.lstsq(stacked, np.vstack([y, np.zeros((x.shape[1], 4))]), rcond=None)[0]
    np.testing.assert_allclose(module.fold.numpy(), wanted, rtol=2e-2 if l2 < 1e-4 else 1e-3, atol=1e-3)


def test_a_new_user_is_answered_from_the_history_alone() -> None:
    model, module, family = build()
    finish(model, family)
    histories = [["i1", "i2", "never"], ["i2", "i1"], []]
    said = model(rows(["new", "newer", ""], histories).batch())["scores"]
    vectors = summary(module, histories) @ module.fold.numpy()
    wanted = vectors @ module.item.weight[RESERVED:].detach().numpy().T + module.bias.detach().numpy()
    np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(said[0], said[1], rtol=1e-5, atol=1e-6)  # neither order nor unknown items count


def test_users_made_of_their_histories_are_folded_back_to_themselves() -> None:
    model, module, family = build(fold_l2=1e-9)
    tensors = {name: torch.from_numpy(value) for name, value in model.encoder.rows(train()).items()}
    with torch.no_grad():
        truth = torch.randn(9, 4)
        module.user.weight[tensors["user"]] = module.summary(tensors["history"]) @ truth
    finish(model, family)
    known = model(train().batch())["scores"]
    hidden = rows([""] * 60, [list(train().column("history")[i]) for i in range(60)])
    np.testing.assert_allclose(model(hidden.batch())["scores"], known, rtol=1e-3, atol=1e-3)


def test_dropout_is_for_training_alone() -> None:
    model, module, _ = build(dropout=0.5)
    tensors = {name: torch.from_numpy(value) for name, value in model.encoder.rows(train()).items()}
    module.train()
    assert not torch.equal(module(**tensors)["scores"], module(**tensors)["scores"])
    module.eval()
    assert torch.equal(module(**tensors)["scores"], module(**tensors)["scores"])


def test_an_empty_vector_is_refused() -> None:
    with pytest.raises(UserError, match="width is 0"):
        MatrixFactorisation(width=0)
