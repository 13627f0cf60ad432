import numpy as np
import pyarrow as pa
import torch
from scipy import sparse

from limbeck.model import Model
from limbeck.models.popularity import Popularity
from limbeck.task import Problem
from limbeck.types import Array, Axis, Rows

SEEN = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1.0]])


def fitted(target: Array | sparse.csr_matrix = SEEN, weight: Array | None = None) -> list[float]:
    table = pa.table({"history": [["a"], [], ["c", "b"], ["never"]]})
    rows = Rows(table, np.arange(4), "shop")
    problem = Problem(rows, rows, rows, Axis("item", ("a", "b", "c")), ("history",))
    family = Popularity()
    encoder = family.encoder(problem)
    module = family.module(encoder, 3)
    family.fit(module, encoder.rows(rows), target, weight)
    said = Model("popularity", {}, encoder, module, 3)(rows.batch())["scores"]
    assert said.shape == (4, 3)
    assert (said == said[0]).all()  # whoever asks
    answer: list[float] = said[0].tolist()
    return answer


def test_scores_are_how_many_rows_have_an_item() -> None:
    assert fitted() == [3, 1, 2]
    assert fitted(sparse.csr_matrix(SEEN)) == [3, 1, 2]


def test_rows_count_by_their_weight() -> None:
    weight = np.array([0.5, 2.0, 0.0, 1.0], np.float32)
    assert fitted(weight=weight) == fitted(sparse.csr_matrix(SEEN), weight) == [2.5, 0.0, 1.5]


def test_before_it_is_fitted_all_items_are_equal() -> None:
    module = Popularity().module(None, 3)  # type: ignore[arg-type]
    assert module(history=torch.zeros(2, 1, dtype=torch.int64))["scores"].tolist() == [[0, 0, 0], [0, 0, 0]]
