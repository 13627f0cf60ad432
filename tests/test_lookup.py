"""Ranks and row numbers, against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limbeck.lookup import KeyIndex, Ranks

WHOLE = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(WHOLE, st.integers(-20, 20), st.integers(0, 5000)), unique=True), st.lists(WHOLE))
@example(list(range(7, 30)), [6, 30])
@example([-(2**63), 2**63 - 1], [0])
def test_ranks_are_places_among_the_sorted(values, strangers):
    values = sorted(values)
    query = [*values[::-1], *strangers, *(v + 1 for v in values if v < 2**63 - 1)]
    found = Ranks(np.array(values, np.int64))(np.array(query, np.int64))
    places = {value: rank for rank, value in enumerate(values)}
    assert found.tolist() == [places.get(value, -1) for value in query]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(WHOLE, st.integers(0, 9)), st.integers(-1, 2)), max_size=30),
    st.lists(st.tuples(st.integers(-1, 10), st.integers(-2, 3)), max_size=10),
)
def test_a_key_leads_to_its_first_row(keys, strangers):
    first: dict[tuple[int, int], int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    index = KeyIndex(*(np.array([key[i] for key in keys], np.int64) for i in (0, 1)))
    query = [*keys, *strangers]
    found = index.rows(*(np.array([key[i] for key in query], np.int64) for i in (0, 1)))
    assert found.tolist() == [first.get(key, -1) for key in query]
