import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limbeck.encoders.history import History
from limbeck.types import Lists

CATALOGUE = ("b", "a", "d", "c")


def naive(rows: list[list[str]], length: int) -> list[list[int]]:
    kept = [[CATALOGUE.index(i) + 2 if i in CATALOGUE else 1 for i in row[-length:]] for row in rows]
    width = max([1, *map(len, kept)])
    return [row + [0] * (width - len(row)) for row in kept]


@given(st.lists(st.lists(st.sampled_from([*CATALOGUE, "new"]), max_size=7), max_size=6), st.integers(1, 5))
def test_the_latest_items_are_kept_padded_on_the_right(rows: list[list[str]], length: int) -> None:
    found = History("history", CATALOGUE, length=length)(Lists.of(rows))["history"]
    assert found.dtype == np.int64
    assert found.shape == (len(rows), max([1, *(min(len(row), length) for row in rows)]))
    assert found.tolist() == naive(rows, length)


def test_numbers_are_found_by_their_text() -> None:
    history = History("history", ("10", "9"), length=3)
    assert history(Lists.of([[9, 10], [8]]))["history"].tolist() == [[3, 2], [1, 0]]


def test_rows_cut_from_longer_ones_keep_their_own_items() -> None:
    lists = Lists(["x", "a", "b", "c"], np.array([1, 3, 4]))  # offsets need not begin at 0
    assert History("h", CATALOGUE, length=9)(lists)["h"].tolist() == [[3, 2], [5, 0]]


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    history = History("history", CATALOGUE, length=3)
    again = History.load(tmp_path, json.loads(json.dumps(history.save(tmp_path))))
    assert again.fingerprint == history.fingerprint
    assert again.padded == history.padded == ("history",)
    assert len(again) == 6
    assert History("history", CATALOGUE, length=4).fingerprint != history.fingerprint
