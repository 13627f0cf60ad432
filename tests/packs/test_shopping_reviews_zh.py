import pytest

from limbeck.fetch import open_pack

pytestmark = pytest.mark.slow


def test_its_unique_reviews_are_those_that_were_counted():
    rows = open_pack("shopping-reviews-zh").rows
    by = {label: set() for label in ("pos", "neg")}
    for text, label in zip(rows.column("text"), rows.column("label"), strict=True):
        by[label].add(text)
    assert len(by["pos"]) == 8379
    assert len(by["neg"]) == 9078
    assert len(by["pos"] & by["neg"]) == 47
    assert len(rows) > 2 * (8379 + 9078) - 1000  # repeats are kept: dropping them is the task's
