"""Values that training had none of are counted and named, whatever the batches they come in."""

import numpy as np
import pytest

from limbeck.types import Lists
from limbeck.unknown import NAMED, Unknown

ROWS = [["a", "x"], [], ["y", "x"], ["b"], ["z"], ["x", "w", "v", "u", "a"]]


@pytest.mark.parametrize("size", [1, 2, 6])
def test_what_is_missed_is_counted_alike_in_batches_of_any_size(size: int) -> None:
    found = Unknown("history")
    for start in range(0, len(ROWS), size):
        some = Lists.of(ROWS[start : start + size])
        missed = np.array([value not in ("a", "b") for value in some.values], bool)
        found = found.with_more(some, missed, np.arange(start, start + len(some)))
    unknown = [value for row in ROWS for value in row if value not in ("a", "b")]
    assert found.values == len(unknown)
    assert found.named == tuple(dict.fromkeys(unknown))[:NAMED]
    assert found.rows == sum(any(value in unknown for value in row) for row in ROWS)
    bare = [i for i, row in enumerate(ROWS) if row and all(value in unknown for value in row)]
    assert (found.bare, found.first) == (len(bare), bare[0])


def test_it_is_said_in_words() -> None:
    some = Unknown("history", 12, ("a", "b", "c", "d", "e"), 9)
    assert str(some) == (
        "12 values of 'history' in 9 rows passed over, for training had none of them ('a', 'b', 'c', 'd', 'e' and "
        "others)"
    )
    bare = str(Unknown("history", 2, ("a",), 2, 2, 4))
    assert bare.endswith("; 2 rows hold no other, the first row 4; they are answered as empty lists")
