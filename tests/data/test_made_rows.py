"""Rows made of a table's rows: spunge, munge and gibbs."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck import parts
from limbeck.cells import cells
from limbeck.data.gibbs import Gibbs
from limbeck.data.munge import Munge, nearest
from limbeck.data.spunge import Spunge
from limbeck.errors import UserError
from limbeck.types import Rows

MAKERS = ("spunge", "munge", "gibbs")


def shop(count=200, seed=0, **more):
    """Prices that follow the kind of goods, whole numbers of pieces, and a label nobody may look at."""
    draw = np.random.default_rng(seed)
    kind = draw.choice(["tea", "pot"], count, p=(0.7, 0.3))
    price = np.where(kind == "tea", 4.0, 30.0) + draw.normal(size=count)
    table = pa.table({
        "kind": pa.array(np.where(draw.random(count) < 0.05, None, kind)),
        "price": pa.array(price, mask=draw.random(count) < 0.05),
        "pieces": draw.integers(1, 9, count),
        "sale": draw.random(count) < 0.2,
        "label": draw.integers(0, 2, count),
        **more,
    })  # fmt: skip
    return Rows(table, np.arange(count), "shop", {"label": "label"})


@pytest.mark.parametrize("maker", MAKERS)
def test_only_features_are_filled_and_cells_are_of_their_columns_kind(maker) -> None:
    rows = shop()
    made = parts.make("data", maker, {"count": 500}).make(rows)
    assert len(made) == 500
    assert made.table.schema.names == rows.table.schema.names
    assert made.table.schema.field("pieces").type == pa.int64()
    assert made.table.column("label").null_count == 500
    assert set(made.table.column("kind").to_pylist()) <= {"tea", "pot", None}
    pieces = made.table.column("pieces").to_numpy()
    assert pieces.min() >= 1
    assert pieces.max() <= 8
    assert made.roles == rows.roles
    assert made.source != rows.source


@pytest.mark.parametrize("maker", MAKERS)
def test_equal_seeds_make_equal_rows_and_other_seeds_others(maker) -> None:
    one, again, other = (parts.make("data", maker, {"count": 50, "seed": seed}).make(shop()) for seed in (1, 1, 2))
    assert one.table.equals(again.table)
    assert one.fingerprint == again.fingerprint
    assert not one.table.equals(other.table)
    assert other.source != one.source


@pytest.mark.parametrize("maker", MAKERS)
def test_dependent_columns_stay_dependent(maker) -> None:
    made = parts.make("data", maker, {"count": 2000}).make(shop(600)).table
    kind, price = (np.array(made.column(name).to_pylist(), object) for name in ("kind", "price"))
    there = np.array([k is not None and p is not None for k, p in zip(kind, price, strict=True)])
    tea = price[there & (kind == "tea")].astype(float)
    pot = price[there & (kind == "pot")].astype(float)
    # Independent columns would give both the mean of about 12.
    assert np.median(tea) < 8 < 24 < np.median(pot)


@pytest.mark.parametrize("maker", MAKERS)
def test_rows_without_features_and_impossible_settings_are_refused(maker) -> None:
    bare = Rows(pa.table({"label": [0, 1]}), np.arange(2), "bare", {"label": "label"})
    with pytest.raises(UserError, match="no columns of numbers or categories"):
        parts.make("data", maker, {"count": 5}).make(bare)
    with pytest.raises(UserError, match="count is 0"):
        parts.make("data", maker, {"count": 0})


def test_spunge_disturbs_the_share_it_is_told_by_the_noise_it_is_told() -> None:
    rows = shop(400, plain=np.random.default_rng(5).normal(size=400) * 7)
    same = Spunge(300, share=0.0).make(rows)
    real = set(rows.table.column("plain").to_pylist())
    assert set(same.table.column("plain").to_pylist()) <= real
    moved = Spunge(20_000, share=0.1, noise=0.1).make(rows).table.column("plain").to_numpy()
    changed = np.array([value not in real for value in moved.tolist()])
    assert changed.mean() == pytest.approx(0.1, abs=0.01)


def naive_munge(numbers, codes, neighbour, order, trades, noise, local):
    """Algorithm 1 of the paper, a pair at a time."""
    numbers, codes = numbers.copy(), codes.copy()
    for row in order:
        other = neighbour[row]
        if trades[row, 0]:
            mine, theirs = numbers[row], numbers[other]
            sd = abs(mine - theirs) / local
            numbers[row], numbers[other] = theirs + noise[row, 0, 0] * sd, mine + noise[row, 0, 1] * sd
        if trades[row, 1]:
            codes[row], codes[other] = codes[other], codes[row]
    return numbers, codes


@given(st.integers(2, 30), st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
@settings(deadline=None, max_examples=25)
def test_munge_is_the_papers_algorithm(count, seed, share) -> None:
    random = np.random.default_rng(seed)
    table = pa.table({"x": random.normal(size=count), "c": random.choice(["a", "b", "c"], count)})
    rows = Rows(table, np.arange(count), "s", {})
    held = cells(rows)
    made = Munge(count, seed=seed, share=share, local=2.0).make(rows)
    draw = np.random.Generator(np.random.PCG64(seed))
    order = draw.permutation(count)
    trades, noise = draw.random((count, 2)) < share, draw.normal(size=(count, 1, 2))
    near = nearest(held.features())
    numbers, codes = naive_munge(held.numbers["x"], held.codes["c"], near, order, trades, noise, 2.0)
    np.testing.assert_allclose(
        made.table.column("x").to_numpy(), np.clip(numbers, *np.sort(held.numbers["x"])[[0, -1]])
    )
    assert made.table.column("c").to_pylist() == [held.values["c"][int(code)].as_py() for code in codes]


def test_the_nearest_row_is_another_one_even_among_equals() -> None:
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(10, 3)), 2, axis=0)
    assert (nearest(features) != np.arange(20)).all()
    apart = np.linalg.norm(features[:, None] - features[None], axis=2) + np.eye(20) * 9
    np.testing.assert_allclose(apart[np.arange(20), nearest(features)], apart.min(1))


def test_another_category_is_as_far_as_a_whole_range() -> None:
    table = pa.table({"x": [0.0, 10.0, 0.0], "c": ["a", "a", "b"]})
    features = cells(Rows(table, np.arange(3), "s", {})).features()
    assert np.linalg.norm(features[0] - features[1]) == pytest.approx(1.0)
    assert np.linalg.norm(features[0] - features[2]) == pytest.approx(1.0)


def test_gibbs_takes_real_cells_and_a_column_alone_is_drawn_as_it_is() -> None:
    random = np.random.default_rng(1)
    rows = Rows(pa.table({"x": random.exponential(size=300)}), np.arange(300), "s", {})
    made = Gibbs(3000).make(rows).table.column("x").to_numpy()
    assert set(made.tolist()) <= set(rows.table.column("x").to_pylist())
    assert made.mean() == pytest.approx(rows.table.column("x").to_numpy().mean(), rel=0.1)
