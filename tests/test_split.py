import datetime
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from limbeck.errors import UserError
from limbeck.split import Split, assign, draws
from limbeck.types import Rows

ROLES = {"user": "user", "time": "time", "label": "label", "split": "split"}
SEEDS = st.integers(0, 2**31)


def _rows(columns, id=None):
    table = pa.table(columns)
    id = np.arange(table.num_rows) if id is None else np.asarray(id, np.int64)
    return Rows(table, id, "s", {role: c for role, c in ROLES.items() if c in columns})


@st.composite
def tables(draw, rows=(30, 120), users=6):
    count = draw(st.integers(*rows))
    shuffle = np.random.default_rng(draw(st.integers(0, 1000)))
    return _rows(
        {
            "user": [f"u{u}" for u in shuffle.integers(0, users, count)],
            "time": shuffle.permutation(count) // 2,  # two rows a moment: a tie at most, so that no part is emptied
            "label": shuffle.choice(["a", "b"], count, p=[0.8, 0.2]).tolist(),
        },
        id=shuffle.permutation(10 * count)[:count],
    )


ALL = [
    Split("user_random"),
    Split("leave_last_out"),
    Split("time_cut"),
    Split("group", by="user", shares=(2, 1, 1)),
    Split("random"),
    Split("random", stratify=True),
]


@pytest.mark.parametrize("split", ALL, ids=lambda s: s.kind)
@given(rows=tables(), seed=SEEDS)
def test_a_row_keeps_its_part_whatever_the_order_of_the_rows(split, rows, seed):
    order = np.random.default_rng(seed).permutation(len(rows))
    part = assign(rows, split)
    assert part.dtype == np.int8
    assert part.shape == (len(rows),)
    assert set(part.tolist()) == {0, 1, 2}  # every row in exactly one part, and no part empty
    assert (assign(rows.take(order), split) == part[order]).all()


def _counts(total, ratios):
    """The bounds rounded down, stratum by stratum, in exact fractions."""
    ratios = [Fraction(str(ratio)) for ratio in ratios]
    train = max(1, total * ratios[0] // sum(ratios))
    ends = max(train, total * (ratios[0] + ratios[1]) // sum(ratios))
    counts = [train, ends - train, total - ends]
    for part in (2, 1):
        if counts[0] > 1 and counts[part] == 0 and ratios[part] > 0:
            counts[0] -= 1
            counts[part] += 1
    return counts


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.sampled_from([(8, 1, 1), (7, 2, 1), (0.8, 0.1, 0.1)]))
def test_each_user_is_divided_as_slices_of_a_list_are(sizes, shares):
    sizes = [*sizes, 3]  # so that no part is empty
    users = np.repeat(np.arange(len(sizes)), sizes)
    part = assign(_rows({"user": users}), Split("user_random", shares=shares))
    for user, size in enumerate(sizes):
        assert np.bincount(part[users == user], minlength=3).tolist() == _counts(size, shares)
        if size >= 3:
            assert set(part[users == user]) == {0, 1, 2}


@given(tables(rows=(20, 60)), SEEDS)
def test_another_seed_draws_other_rows_of_the_same_number(rows, seed):
    one, other = (assign(rows, Split("random", seed=s)) for s in (seed, seed + 1))
    assert np.bincount(one).tolist() == np.bincount(other).tolist() == _counts(len(rows), (8, 1, 1))
    assert len(rows) < 30 or (one != other).any()


@given(tables(users=9))
def test_each_users_last_row_is_test_and_the_one_before_it_validation(rows):
    part, time, user = assign(rows, Split("leave_last_out")), rows.column("time"), np.array(rows.column("user"))
    for name in set(user.tolist()):
        of = sorted(np.flatnonzero(user == name), key=lambda i: (time[i], rows.id[i]))
        wanted = [0] * len(of) if len(of) < 3 else [0] * (len(of) - 2) + [1, 2]
        assert part[of].tolist() == wanted
        if len(of) >= 3:
            assert time[of][part[of] == 2] == time[of].max()


@given(tables(), st.sampled_from([(8, 1, 1), (1, 1, 1), (3, 0, 1)]))
def test_no_row_trains_that_is_later_than_a_test_row(rows, shares):
    part, time = assign(rows, Split("time_cut", shares=shares)), rows.column("time")
    assert time[part == 0].max() < time[part == 2].min()
    if shares[1]:
        assert time[part == 0].max() < time[part == 1].min() <= time[part == 1].max() < time[part == 2].min()


def test_times_are_cut_where_the_recipe_says():
    rows = _rows({"time": [1.0, 2.0, 3.0, 4.0]})
    assert assign(rows, Split("time_cut", cut=(2, 4))).tolist() == [0, 1, 1, 2]
    days = [datetime.datetime(2024, 1, day) for day in (1, 2, 3, 4)]
    for column in (
        pa.array(days, pa.timestamp("s")),
        pa.array(days, pa.date32()),
        pa.array(days, pa.timestamp("ms", "UTC")),
    ):
        rows = _rows({"time": column})
        for cut in (
            ("2024-01-02", "2024-01-03T23:00:00+00:00"),
            (datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 3, 12)),
        ):
            assert assign(rows, Split("time_cut", cut=cut)).tolist() == [0, 1, 1, 2]


@given(tables(users=12), SEEDS)
def test_a_group_is_never_divided(rows, seed):
    groups = np.array(rows.column("user"))
    if len(set(groups.tolist())) < 3:
        return
    part = assign(rows, Split("group", by="user", seed=seed))
    by_group = [set(part[groups == g].tolist()) for g in set(groups.tolist())]
    assert all(len(parts) == 1 for parts in by_group)
    counts = [sum(parts == {p} for parts in by_group) for p in (0, 1, 2)]
    assert counts == _counts(len(by_group), (8, 1, 1))


@given(tables(rows=(60, 120)))
def test_each_label_is_divided_by_itself(rows):
    part, label = assign(rows, Split("random", stratify=True)), np.array(rows.column("label"))
    for value in ("a", "b"):
        assert np.bincount(part[label == value], minlength=3).tolist() == _counts((label == value).sum(), (8, 1, 1))


def test_a_given_split_is_taken_and_an_empty_value_leaves_the_row_out():
    rows = _rows({"split": ["train", "test", None, "validation", "", "train"]})
    assert assign(rows, Split("given")).tolist() == [0, 2, 3, 1, 3, 0]


@given(st.integers(40, 200), SEEDS)
def test_a_given_split_without_validation_draws_some_from_training_by_label(count, seed):
    label = np.where(np.arange(count) % 4 == 0, "a", "b")
    split = np.where(np.arange(count) < count - 10, "train", "test")
    part = assign(_rows({"split": split, "label": label}), Split("given", seed=seed, validation_share=0.25))
    assert ((part == 2) == (split == "test")).all()
    for value in ("a", "b"):
        among = (label == value) & (split == "train")
        assert (part[among] == 0).sum() == 3 * among.sum() // 4


def test_measured_labels_are_not_taken_for_classes():
    part = assign(_rows({"split": ["train"] * 40 + ["test"], "label": np.arange(41) / 7}), Split("given"))
    assert np.bincount(part).tolist() == [34, 6, 1]


@given(st.integers(10, 200), st.integers(1, 50), SEEDS)
def test_rows_that_are_appended_leave_the_order_of_the_old_draws(count, more, seed):
    assert (draws(np.arange(count + more), seed)[:count] == draws(np.arange(count), seed)).all()


def test_draws_are_those_of_splitmix():
    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    assert mix(0) == 0xE220A8397B1DCDAF  # first output for seed 0 in the authors' own test
    ids = np.array([0, 1, -5, 2**62])
    assert draws(ids, 7).tolist() == [mix(mix(int(i) % 2**64) ^ mix(7)) for i in ids]


def test_draws_are_even():
    counts = np.bincount((draws(np.arange(100_000), 3) >> np.uint64(60)).astype(int), minlength=16)
    assert ((counts - 6250) ** 2 / 6250).sum() < 37.7  # chi-squared, 15 degrees, 1 in 1,000


@pytest.mark.parametrize(
    ("columns", "split", "said"),
    [
        ({"user": [1, 2]}, Split("random"), "2 rows cannot fill three parts"),
        ({"user": [1, 1, 2, 2]}, Split("leave_last_out"), "no column has the role 'time'"),
        ({"user": [1, 1, 2, 2], "time": [1, 2, 3, 4]}, Split("leave_last_out"), "leaves the validation part empty"),
        ({"time": ["mon", "tue", "wed"]}, Split("time_cut"), "holds string values; numbers or dates"),
        ({"time": [5, 5, 5, 5]}, Split("time_cut"), "leaves the train part empty"),
        ({"time": [1, 2, 3]}, Split("time_cut", cut=(3, 2)), "may not be after"),
        ({"time": [1, 2, 3]}, Split("time_cut", cut=("2024-01-01", 2)), "time column holds numbers"),
        ({"time": [datetime.date(2024, 1, 1)] * 3}, Split("time_cut", cut=(1, 2)), "time column holds dates"),
        ({"time": [datetime.date(2024, 1, 1)] * 3}, Split("time_cut", cut=("soon", "later")), "'soon'; a date"),
        ({"user": [1, 2, 3]}, Split("group", by="shop"), "no column 'shop' to split by; there are: user"),
        ({"user": [1, 1, 2, 2]}, Split("group", by="user"), "part empty"),
        ({"user": [[1], [2], [3]]}, Split("group", by="user"), "cannot be split by"),
        ({"split": ["train", "dev", "test"]}, Split("given"), "holds 'dev'; train, validation, test were wanted"),
        ({"split": [0, 1, 2]}, Split("given"), "holds int64 values"),
        ({"split": ["train"] * 4}, Split("given"), "leaves the test part empty"),
    ],
)
def test_a_split_that_cannot_be_is_refused(columns, split, said):
    with pytest.raises(UserError, match=said):
        assign(_rows(columns), split)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "group"},
        {"kind": "random", "shares": (0, 1, 1)},
        {"kind": "random", "shares": (8, -1, 1)},
        {"kind": "random", "shares": (float("nan"), 1, 1)},
        {"kind": "given", "validation_share": 1.0},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="split"):
        Split(**settings)


def test_a_recipe_is_validated_into_a_split():
    said = {"kind": "time_cut", "shares": [6, 2, 2], "cut": [datetime.date(2024, 1, 2), "2024-02-01"]}
    assert TypeAdapter(Split).validate_python(said) == Split(
        "time_cut", shares=(6, 2, 2), cut=(datetime.date(2024, 1, 2), "2024-02-01")
    )


def test_equal_splits_have_equal_fingerprints_and_each_setting_counts():
    plain = Split("random")
    others = [
        Split("user_random"),
        Split("random", shares=(7, 2, 1)),
        Split("random", seed=1),
        Split("random", stratify=True),
        Split("random", by="x"),
        Split("random", cut=(1, 2)),
        Split("random", validation_share=0.2),
    ]
    assert plain.fingerprint == Split("random").fingerprint
    assert len({plain.fingerprint, *(s.fingerprint for s in others)}) == len(others) + 1


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize("missing", [None, ""])
def test_rows_without_a_label_train_and_shares_count_the_others(missing, stratify):
    label = [missing if i % 3 else "ab"[i % 2] for i in range(300)]
    whole = _rows({"label": label})
    part = assign(whole, Split("random", stratify=stratify))
    bare = np.array([i % 3 > 0 for i in range(300)])
    assert set(part[bare].tolist()) == {0}
    assert np.bincount(part[~bare]).tolist() == [80, 10, 10]
    there = whole.take(np.flatnonzero(~bare))
    assert (assign(there, Split("random", stratify=stratify)) == part[~bare]).all()


def test_validation_rows_that_are_drawn_have_a_label():
    label = ["ab"[i % 2] if i % 2 else None for i in range(100)]
    part = assign(_rows({"split": ["train"] * 80 + ["test"] * 20, "label": label}), Split("given"))
    assert (part == 1).sum() == 6
    assert all(label[i] for i in np.flatnonzero(part == 1))
