import collections

import numpy as np
import pytest

from limbeck.fetch import find_pack, open_pack
from limbeck.split import Split, assign

pytestmark = pytest.mark.slow


def test_its_counts_are_those_grouplens_states():
    source = open_pack("ml-100k")
    rows = source.rows
    assert len(rows) == 100_000
    assert len(set(rows.column(rows.role("user")))) == source.sides["user"].num_rows == 943
    assert len(set(rows.column(rows.role("item")))) == source.sides["item"].num_rows == 1682
    assert set(rows.column(rows.role("label")).tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert min(collections.Counter(rows.column("user_id")).values()) == 20


def test_every_rated_film_has_a_title():
    source = open_pack("ml-100k")
    titles = dict(zip(*(source.sides["item"].column(c).to_pylist() for c in ("item_id", "movie_title")), strict=True))
    assert titles["1"] == "Toy Story"
    assert set(source.rows.column("item_id")) <= set(titles)


def test_a_second_reading_finds_it_whole_and_alike():
    first = open_pack("ml-100k")
    assert find_pack("ml-100k").here
    assert open_pack("ml-100k").rows.fingerprint == first.rows.fingerprint


def test_its_splits_keep_every_user_in_every_part():
    rows = open_pack("ml-100k").rows
    user = np.unique(rows.column("user_id"), return_inverse=True)[1]
    for split in (Split("user_random"), Split("leave_last_out")):
        part = assign(rows, split)
        assert all(len(np.unique(user[part == p])) == 943 for p in (0, 1, 2))
    assert (np.bincount(part)[1:] == 943).all()
