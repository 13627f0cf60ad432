import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limbeck.encoders._padding import padded


@given(st.lists(st.lists(st.integers(1, 9), max_size=4), max_size=5))
def test_rows_come_back_when_padding_is_stripped(rows: list[list[int]]) -> None:
    flat = np.array([v for row in rows for v in row], np.int64)
    whole = padded(flat, np.array([len(row) for row in rows], np.int64))
    assert [row[row > 0].tolist() for row in whole] == rows
    assert whole.shape[1] == max([1, *map(len, rows)])
