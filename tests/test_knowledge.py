"""What is kept of signals, against naive counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from limbeck import knowledge
from limbeck.errors import UserError
from limbeck.knowledge import Knowledge, keep, pack, shorten, unpack
from limbeck.types import Signals


def keys(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(rows) * 5, np.zeros(rows, np.int64)


def naive_tail(row: np.ndarray, kept: list[int], temperature: float) -> float:
    finite = {i: float(v) for i, v in enumerate(row) if v > -math.inf}
    if not finite:
        return 0.0
    top = max(finite.values())
    mass = {i: math.exp((v - top) / temperature) for i, v in finite.items()}
    return math.fsum(m for i, m in mass.items() if i not in kept) / math.fsum(mass.values())


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(6, 41)),
        elements=st.one_of(st.integers(-3, 3), st.just(-np.inf), st.floats(-80, 80, width=32)),
    ),
    st.integers(1, 5),
    st.integers(0, 6),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_the_best_are_kept_in_order_some_others_drawn_and_the_mass_outside_counted(values, top, sampled, temperature):
    kept = Knowledge("float32", top, sampled, (temperature, 2.0))
    ids, numbers, tail = shorten(values, kept, *keys(len(values)))
    assert ids.shape == numbers.shape == (len(values), top + sampled)
    for row, places, said, mass in zip(values, ids.tolist(), numbers, tail, strict=True):
        ranked = sorted((i for i in range(len(row)) if row[i] > -np.inf), key=lambda i: (-row[i], i))
        best = ranked[:top]
        assert places[:top] == best + [-1] * (top - len(best))
        drawn = [i for i in places[top:] if i >= 0]
        assert len(drawn) == len(set(drawn)) == min(sampled, len(ranked) - len(best))
        assert set(drawn) <= set(ranked) - set(best)
        assert places[top + len(drawn) :] == [-1] * (sampled - len(drawn))
        np.testing.assert_array_equal(said, [row[i] if i >= 0 else -np.inf for i in places])
        wanted = [naive_tail(row, [*best, *drawn], temperature), naive_tail(row, [*best, *drawn], 2.0)]
        np.testing.assert_allclose(mass, wanted, rtol=1e-6, atol=1e-12)


def test_tail_and_kept_mass_make_one_though_the_kept_values_are_rounded():
    logits = np.random.default_rng(0).standard_normal((41, 401)) * 3
    said = keep(Knowledge("float16", 7, temperatures=(1.0, 3.0)), Signals({"x": logits}, {"x": "logits"}), *keys(41))
    ids, tail = said.columns["x.ids"].data, said.columns["x.tail"].data
    for column, temperature in enumerate((1.0, 3.0)):
        whole = torch.softmax(torch.from_numpy(logits) / temperature, 1)
        inside = whole.gather(1, torch.from_numpy(ids).long()).sum(1).numpy()
        np.testing.assert_allclose(tail[:, column], 1 - inside, rtol=1e-5)


def test_the_tail_of_probabilities_is_that_of_their_logarithms():
    p = torch.softmax(torch.randn(11, 41, generator=torch.Generator().manual_seed(0)), 1).numpy()
    kept = Knowledge("float32", 5, temperatures=(1.0, 2.0))
    said = keep(kept, Signals({"x": p}, {"x": "probabilities"}), *keys(11)).columns
    rest = 1 - np.take_along_axis(p, said["x.ids"].data.astype(np.int64), 1).sum(1)
    np.testing.assert_allclose(said["x.tail"].data[:, 0], rest, rtol=1e-4)
    assert (said["x.tail"].data[:, 1] > said["x.tail"].data[:, 0]).all()


def test_what_is_drawn_depends_on_seed_and_key_alone():
    values = np.random.default_rng(0).standard_normal((9, 500)).astype(np.float32)
    id, view = keys(9)
    drawn = shorten(values, Knowledge(top=3, sampled=8), id, view)[0][:, 3:]
    turned = shorten(values[::-1], Knowledge(top=3, sampled=8), id[::-1], view)[0][::-1, 3:]
    np.testing.assert_array_equal(drawn, turned)
    for other in (Knowledge(top=3, sampled=8, seed=1), Knowledge(top=3, sampled=8)):
        assert not np.array_equal(drawn, shorten(values, other, id, view + 1 - other.seed)[0][:, 3:])


def test_every_other_entry_is_drawn_equally_often():
    values = np.tile(np.arange(40, dtype=np.float32), (8000, 1))
    drawn = shorten(values, Knowledge(top=10, sampled=3), *keys(8000))[0][:, 10:]
    counts = np.bincount(drawn.ravel(), minlength=40)
    assert counts[30:].sum() == 0
    expected = 8000 * 3 / 30
    chi_squared = ((counts[:30] - expected) ** 2 / expected).sum()
    assert chi_squared < 58.3  # the 0.999 quantile at 29 degrees of freedom


def test_a_short_head_is_kept_whole_and_other_kinds_too():
    said = {"x": np.zeros((2, 3)), "e": np.zeros((2, 50))}
    kept = keep(Knowledge(top=3, temperatures=(1.0,)), Signals(said, {"x": "logits", "e": "embedding"}), *keys(2))
    assert {name: column.data.shape for name, column in kept.columns.items()} == {"x": (2, 3), "e": (2, 50)}


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, 17, elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_bfloat16_rounds_as_torch_does(values):
    packed, _ = pack("x", values, "values", "bfloat16", np.arange(17))
    wanted = torch.from_numpy(values).to(torch.bfloat16)
    np.testing.assert_array_equal(packed.data, wanted.view(torch.uint16).numpy())
    np.testing.assert_array_equal(unpack(packed.data, "bfloat16"), wanted.float().numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["logits", "scores", "values", "embedding", "probabilities"])
@pytest.mark.parametrize("top", [None, 2])
def test_what_is_not_finite_is_refused_but_for_the_mask_of_scores(dtype, wrong, kind, top):
    values = np.full((4, 5), 0.5, np.float32)
    values[2, 1] = wrong
    signals = Signals({"x": values}, {"x": kind})
    if wrong == -math.inf and kind in ("logits", "scores"):
        columns = keep(Knowledge(dtype, top), signals, *keys(4)).columns
        if top is None:
            np.testing.assert_array_equal(unpack(columns["x"].data, dtype), values)
        else:
            assert columns["x.ids"].data[2].tolist() == [0, 2]
        return
    with pytest.raises(UserError, match=r"signal 'x' holds (nan|inf|-inf) in 1 rows, first in id 10;"):
        keep(Knowledge(dtype, top), signals, *keys(4))


def test_a_value_too_large_for_the_format_is_refused_with_the_one_to_use():
    values = np.array([[1.0, -70_000.0]])
    with pytest.raises(UserError, match=r"reaches 70000, beyond 65504.*bfloat16 or float32"):
        pack("x", values, "logits", "float16", np.arange(1))
    assert unpack(pack("x", values, "logits", "bfloat16", np.arange(1))[0].data, "bfloat16")[0, 1] == -70_144.0
    with pytest.raises(UserError, match="beyond"):
        pack("x", np.array([[1e300]]), "logits", "float32", np.arange(1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_probabilities_stay_between_zero_and_one_and_the_clipped_are_counted(dtype):
    values = np.array([[0.0, 1.0], [1 - 1e-9, 1e-50], [0.25, 0.75]])
    packed, clipped = pack("x", values, "probabilities", dtype, np.arange(3))
    back = unpack(packed.data, dtype)
    assert clipped == 4
    assert (back > 0).all()
    assert (back < 1).all()
    assert back[2].tolist() == [0.25, 0.75]
    assert np.isfinite(torch.from_numpy(back).log()).all()
    with pytest.raises(UserError, match=r"leaves 0\.\.1"):
        pack("x", values + 0.5, "probabilities", dtype, np.arange(3))


def test_tails_of_other_temperatures_are_refused():
    said = {"x.ids": np.zeros((2, 1), int), "x.values": np.zeros((2, 1)), "x.tail": np.full((2, 1), 0.5)}
    signals = Signals(said, {"x": "scores"}, tail_temperatures=(2.0,))
    assert set(keep(Knowledge(temperatures=(2.0,)), signals, *keys(2)).columns) == set(said)
    with pytest.raises(UserError, match="name the same under 'temperatures'"):
        keep(Knowledge(temperatures=(3.0,)), signals, *keys(2))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"dtype": "int8"}, "use float16"),
        ({"top": 0}, "1 or more"),
        ({"sampled": 3}, "needs 'top'"),
        ({"top": 3, "sampled": -1}, "0 or more"),
        ({"temperatures": (0.0,)}, "above 0"),
        ({"temperatures": (math.nan,)}, "above 0"),
    ],
)
def test_impossible_settings_are_refused(wrong, why):
    with pytest.raises(UserError, match=why):
        Knowledge(**wrong)


def test_settings_come_back_from_their_json():
    kept = Knowledge("bfloat16", 5, 3, (1.0, 4.0), 7)
    said = knowledge.facts(kept)
    assert Knowledge(**{**said, "temperatures": tuple(said["temperatures"])}) == kept
