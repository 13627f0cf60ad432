import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.metrics import ranking


def best(scores: list[float], k: int) -> list[int]:
    """The best k of one user, equal scores by position, nothing that may not be shown."""
    order = sorted((i for i in range(len(scores)) if scores[i] > -math.inf), key=lambda i: (-scores[i], i))
    return order[:k]


def naive(scores: list[float], wanted: set[int], lost: int, k: int) -> dict[str, float]:
    """One user's metrics, with `lost` more wanted items outside the catalogue."""
    top, count = best(scores, k), len(wanted) + lost
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(top) if item in wanted)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(count, k)))
    return {
        "ndcg": gain / ideal if ideal else 0.0,
        "recall": len(wanted & set(top)) / count if count else 0.0,
    }


@st.composite
def users(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]], int]:
    """Scores with many ties and masks, wanted positions (-2 outside the catalogue), and k."""
    items = draw(st.integers(2, 9))
    score = st.sampled_from([-math.inf, 0.0, 0.5, 1.0, 2.0])
    scores = draw(st.lists(st.lists(score, min_size=items, max_size=items), min_size=1, max_size=5))
    wanted = [
        draw(st.lists(st.integers(0, items - 1), unique=True, max_size=4)) + [-2] * draw(st.integers(0, 2))
        for _ in scores
    ]
    return scores, wanted, draw(st.integers(1, items + 3))


def padded(wanted: list[list[int]]) -> np.ndarray:
    width = max(1, *map(len, wanted)) if wanted else 1
    return np.array([row + [-1] * (width - len(row)) for row in wanted])


@given(users())
@settings(max_examples=200)
def test_equal_to_a_loop_over_users(drawn: tuple[list[list[float]], list[list[int]], int]) -> None:
    scores, wanted, k = drawn
    top = ranking.top_positions(np.array(scores), k)
    assert top.shape == (len(scores), min(k, len(scores[0])))
    hit = ranking.hits(top, padded(wanted))
    count = np.array([len(row) for row in wanted])
    ndcg, recall = ranking.ndcg(hit, count, k), ranking.recall(hit, count, k)
    for row, (said, want) in enumerate(zip(scores, wanted, strict=True)):
        shown = best(said, k)
        assert top[row].tolist() == shown + [-1] * (top.shape[1] - len(shown))
        found = naive(said, {i for i in want if i >= 0}, want.count(-2), k)
        assert ndcg[row] == pytest.approx(found["ndcg"])
        assert recall[row] == pytest.approx(found["recall"])
        assert hit[row].tolist() == [i >= 0 and i in want for i in top[row].tolist()]


@given(users())
def test_the_reciprocal_rank_counts_half_of_the_ties(drawn: tuple[list[list[float]], list[list[int]], int]) -> None:
    scores, wanted, _ = drawn
    found = ranking.reciprocal_rank(np.array(scores), padded(wanted))
    for row, (said, want) in enumerate(zip(scores, wanted, strict=True)):
        shown = [said[i] for i in want if i >= 0 and said[i] > -math.inf]
        if not shown:
            assert found[row] == 0.0
            continue
        target = max(shown)
        rank = 1 + sum(s > target for s in said) + (sum(s == target for s in said) - 1) / 2
        assert found[row] == pytest.approx(1 / rank)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_many_items_are_ranked_as_a_stable_sort_ranks_them(k: int) -> None:
    random = np.random.default_rng(0)
    for scores in (random.normal(size=(41, 401)), random.integers(0, 5, (41, 401)).astype(float), np.zeros((3, 401))):
        wanted = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        assert np.array_equal(ranking.top_positions(scores, k), wanted)


def test_the_scores_are_left_as_they_were() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 9))
    before = scores.copy()
    ranking.top_positions(scores, 3)
    ranking.reciprocal_rank(scores, np.array([[1], [2], [-1], [3]]))
    assert np.array_equal(scores, before)


def test_a_shorter_list_than_k_still_has_the_ideal_of_k() -> None:
    hit = np.array([[True, False]])
    assert ranking.ndcg(hit, np.array([3]), 10).tolist() == pytest.approx([1 / (1 + 1 / math.log2(3) + 1 / 2)])
    assert ranking.recall(hit, np.array([3]), 10).tolist() == pytest.approx([1 / 3])


def test_who_wants_nothing_has_no_gain() -> None:
    hit = np.zeros((2, 3), bool)
    assert ranking.ndcg(hit, np.array([0, 1]), 3).tolist() == [0, 0]
    assert ranking.recall(hit, np.array([0, 1]), 3).tolist() == [0, 0]


@given(st.lists(st.lists(st.integers(-1, 6), min_size=3, max_size=3), min_size=1, max_size=6))
def test_coverage_is_the_share_of_items_shown_to_anybody(top: list[list[int]]) -> None:
    shown = {i for row in top for i in row if i >= 0}
    assert ranking.coverage(np.array(top), 7) == pytest.approx(len(shown) / 7)
