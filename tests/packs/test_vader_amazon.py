import numpy as np
import pytest

from limbeck.fetch import open_pack
from limbeck.split import Split, assign

pytestmark = pytest.mark.slow


def test_every_sentence_has_the_mean_of_its_twenty_grades():
    rows = open_pack("vader-amazon").rows
    assert len(rows) == 3708
    assert len(set(rows.column("review"))) == 300
    grades = np.stack([rows.column(f"rater_{i}") for i in range(1, 21)])
    assert np.abs(grades.mean(0) - rows.column(rows.role("label"))).max() < 1e-9
    assert grades.min() >= -4
    assert grades.max() <= 4


def test_a_split_by_review_divides_no_review():
    rows = open_pack("vader-amazon").rows
    part, review = assign(rows, Split("group", by="review")), np.array(rows.column("review"))
    assert sum(len(set(review[part == p])) for p in (0, 1, 2)) == 300
