from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from limbeck.metrics import click
from limbeck.types import Array

RNG = np.random.default_rng(0)


def some(count: int = 400, groups: int = 23) -> tuple[Array, Array, Array]:
    chance = RNG.integers(0, 12, count) / 12.0  # many ties
    yes = (RNG.random(count) < 0.2 + 0.6 * chance).astype(np.int64)
    return chance, yes, RNG.integers(0, groups, count)


def naive_group_auc(chance: Array, yes: Array, group: Array) -> float:
    """scikit-learn's, group by group, weighted by rows; groups of one answer dropped."""
    areas, weights = [], []
    for one in set(group.tolist()):
        mine = group == one
        if len(set(yes[mine].tolist())) == 2:
            areas.append(roc_auc_score(yes[mine], chance[mine]))
            weights.append(mine.sum())
    return float(np.average(areas, weights=weights))


def test_group_auc_is_scikit_learns_of_every_group_weighted_by_its_rows() -> None:
    for groups in (1, 23, 300):
        chance, yes, group = some(groups=groups)
        assert click.group_auc(chance, yes, group) == pytest.approx(naive_group_auc(chance, yes, group))


def test_groups_of_one_answer_do_not_count() -> None:
    chance, yes, group = some()
    more = [np.append(chance, [0.9, 0.1]), np.append(yes, [0, 0]), np.append(group, [999, 999])]
    assert click.group_auc(*more) == pytest.approx(click.group_auc(chance, yes, group))
    assert np.isnan(click.group_auc(chance, np.ones_like(yes), group))
    assert np.isnan(click.group_auc(chance[:0], yes[:0], group[:0]))


def test_rows_drawn_again_count_as_often_as_they_were_drawn() -> None:
    chance, yes, group = some()
    drawn = RNG.integers(0, len(yes), len(yes))
    counts = np.bincount(drawn, minlength=len(yes))
    wanted = naive_group_auc(chance[drawn], yes[drawn], group[drawn])
    assert click.resampled_group_auc(chance, yes, group)(counts) == pytest.approx(wanted)
    assert click.resampled_pcoc(chance, yes)(counts) == pytest.approx(chance[drawn].sum() / yes[drawn].sum())


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40), st.integers(1, 12))
def test_chance_error_is_the_mean_gap_of_bins_of_as_many_rows(pairs: list[tuple[float, int]], bins: int) -> None:
    chance, yes = (np.array(values, float) for values in zip(*pairs, strict=True))
    order = np.argsort(chance, kind="stable")
    edges = sorted({round(i * len(yes) / bins) for i in range(bins)} | {len(yes)})
    gaps = [abs(chance[order[a:b]].sum() - yes[order[a:b]].sum()) for a, b in pairwise(edges)]
    assert click.chance_error(chance, yes, bins=bins) == pytest.approx(sum(gaps) / len(yes))


def test_pcoc_of_right_chances_is_one() -> None:
    chance = np.repeat([0.25, 0.75], 4)
    assert click.pcoc(chance, np.array([1, 0, 0, 0, 1, 1, 1, 0])) == 1.0
    assert np.isnan(click.pcoc(chance, np.zeros(8)))
