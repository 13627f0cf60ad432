from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limbeck.errors import UserError
from limbeck.task import Problem
from limbeck.teachers.ensemble import Ensemble, EnsemblePredictor, combine, fit_weights
from limbeck.testing import check_teacher
from limbeck.types import Axis, Batch, Rows, Signals

ROWS = Rows(pa.table({"a": [1.0, 2.0, 3.0], "b": [0.0, 5.0, -1.0]}), np.arange(3), "shop")
numbers = arrays(np.float64, (3, 4), elements=st.floats(-20, 20))


@dataclass
class Says:
    """Its column times (0, 1)."""

    reads: tuple[str, ...]
    kinds: dict[str, str] = field(default_factory=lambda: {"logits": "logits"})
    width: int = 2
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self):
        return f"says {self.reads} {self.width}"

    def __call__(self, batch: Batch):
        name = next(iter(self.kinds))
        return Signals({name: np.outer(batch[self.reads[0]], range(self.width))}, self.kinds, notes=self.notes)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(numbers, numbers, st.floats(0.01, 0.99))
def test_probabilities_are_averaged_and_become_logits_again(x, y, share):
    mean = combine([x, y], [share, 1 - share], "probabilities")
    assert np.allclose(softmax(mean), share * softmax(x) + (1 - share) * softmax(y), atol=1e-12)


def test_probabilities_do_not_underflow():
    sure = np.array([[0.0, 2000.0]])
    assert combine([sure, sure], [1, 1], "probabilities").tolist() == [[-2000.0, 0.0]]


@settings(max_examples=40, deadline=None)
@given(
    numbers, numbers, st.sampled_from(["logits", "probabilities", "standardised", "ranks"]), st.permutations(range(3))
)
def test_only_proportions_of_weights_count_and_rows_do_not_meet(x, y, space, order):
    mean = combine([x, y], [1, 3], space)
    assert np.allclose(combine([x, y], [0.25, 0.75], space), mean)
    assert np.allclose(combine([y, x], [3, 1], space), mean)
    assert np.allclose(combine([x[order], y[order]], [1, 3], space), mean[order])
    assert np.allclose(combine([x, y], [1, 0], space), combine([x], [1], space))


@settings(max_examples=40, deadline=None)
@given(numbers, st.floats(0.1, 9), st.floats(-9, 9))
def test_scale_and_level_of_scores_do_not_matter_when_standardised_or_ranked(x, scale, level):
    x = np.round(x, 3)
    y = np.roll(x, 1, 1)
    for space in ("standardised", "ranks"):
        moved = np.round(x * 2.0**3, 3) if space == "ranks" else x * scale + level
        assert np.allclose(combine([moved, y], [1, 1], space), combine([x, y], [1, 1], space), atol=1e-6)


def test_ranks_and_standardised_scores_by_hand():
    x = np.array([[10.0, 30.0, 20.0, -np.inf]])
    assert combine([x], [1], "ranks")[0].tolist() == [0.5, 1.0, 0.75, -np.inf]
    z = np.sqrt(1.5)
    assert np.allclose(combine([x], [1], "standardised"), [[-z, z, 0.0, -np.inf]])


def test_what_one_member_masks_counts_as_its_worst():
    x, y = np.array([[0.0, 1.0, -np.inf]]), np.array([[1.0, -np.inf, -np.inf]])
    assert combine([x, y], [1, 1], "standardised").tolist() == [[-0.5, 0.5, -np.inf]]
    assert combine([x, y], [1, 1], "ranks")[0].tolist() == pytest.approx([5 / 6, 2 / 3, -np.inf])
    assert combine([x, y], [1, 1], "logits").tolist() == [[0.5, -np.inf, -np.inf]]
    assert combine([x, y], [1, 0], "logits").tolist() == [[0.0, 1.0, -np.inf]]


@pytest.mark.parametrize("members", [2, 3, 4])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_fitted_weights_never_do_worse_than_equal_ones_or_the_best_member(members, seed):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, 40)
    signals = [random.normal(size=(40, 3)) + at * np.eye(3)[truth] for at in range(members)]

    def score(mean):
        logs = mean - np.log(np.exp(mean).sum(1, keepdims=True))
        return float(logs[np.arange(40), truth].mean())

    weights = fit_weights(signals, score, steps=5)
    reached = score(combine(signals, weights, "probabilities"))
    assert sum(weights) == pytest.approx(1)
    assert reached >= score(combine(signals, [1] * members, "probabilities")) - 1e-12
    assert reached >= max(score(combine([s], [1], "probabilities")) for s in signals) - 1e-12


def test_three_members_are_searched_over_the_whole_simplex():
    signals = [np.array([[float(i == at) for i in range(3)]]) for at in range(3)]
    target = np.array([[0.2, 0.5, 0.3]])
    weights = fit_weights(signals, lambda mean: -float(np.abs(mean - target).max()), space="logits", steps=10)
    assert weights == pytest.approx((0.2, 0.5, 0.3))


def test_five_members_move_to_the_best_of_a_concave_score():
    signals = [np.eye(5)[[at]] for at in range(5)]
    target = np.array([[0.4, 0.0, 0.2, 0.4, 0.0]])
    weights = fit_weights(signals, lambda mean: -float(((mean - target) ** 2).sum()), space="logits", steps=5)
    assert weights == pytest.approx(tuple(target[0]), abs=0.11)


def test_equal_weights_win_a_tie():
    same = [np.zeros((1, 2))] * 3
    assert fit_weights(same, lambda mean: 1.0) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_the_predictor_reads_what_any_member_reads_and_keeps_the_promises():
    ensemble = EnsemblePredictor([Says(("a",), notes=("n",)), Says(("b",), notes=("n",))], [1, 3], "logits")
    assert ensemble.reads == ("a", "b")
    said = ensemble(ROWS.batch())
    assert said["logits"][:, 1].tolist() == [0.25, 4.25, 0.0]
    assert said.notes == ("n",)
    check_teacher(ensemble, ROWS)
    others = [
        EnsemblePredictor(ensemble.members, [1, 2], "logits"),
        EnsemblePredictor(ensemble.members, [1, 3], "probabilities"),
    ]
    assert len({ensemble.fingerprint, *(o.fingerprint for o in others)}) == 3


def test_what_each_member_says_is_said_as_well_where_that_is_wanted():
    members = [Says(("a",)), Says(("b",))]
    apart = EnsemblePredictor(members, [1, 3], "logits", apart=True)
    joined = EnsemblePredictor(members, [1, 3], "logits")
    said = apart(ROWS.batch())
    assert said["logits"].tolist() == joined(ROWS.batch())["logits"].tolist()
    assert said["logits.0"][:, 1].tolist() == [1.0, 2.0, 3.0]
    assert said["logits.1"][:, 1].tolist() == [0.0, 5.0, -1.0]
    assert apart.fingerprint != joined.fingerprint
    check_teacher(apart, ROWS)


@pytest.mark.parametrize(
    ("members", "space", "words"),
    [
        ([Says(("a",)), Says(("b",), width=3)], "logits", r"member 2 says \(3, 3\) numbers, member 1 \(3, 2\)"),
        (
            [Says(("a",)), Says(("b",), {"scores": "scores"})],
            "logits",
            "member 2 does not say 'logits'; it says: scores",
        ),
        ([Says(("a",)), Says(("b",), {"logits": "scores"})], "logits", "of different kinds: logits, scores"),
        ([Says(("a",))], "ranks", "'ranks' suits rankings"),
        ([Says(("a",), {"logits": "embedding"})], "logits", "is of kind embedding"),
        ([Says(("a",), {"logits.ids": "logits", "logits": "logits"})], "logits", "tells only the best of 'logits'"),
    ],
)
def test_members_that_do_not_agree_are_refused_in_words(members, space, words):
    with pytest.raises(UserError, match=words):
        EnsemblePredictor(members, [1] * len(members), space)(ROWS.batch())


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0)])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(UserError, match="weight"):
        EnsemblePredictor([Says(("a",)), Says(("b",))], weights, "logits")


def test_brought_members_are_opened_by_name(tmp_path):
    for name, good in (("one", [1.0, 2.0, 3.0]), ("two", [3.0, 2.0, 1.0])):
        pa.parquet.write_table(pa.table({"id": [0, 1, 2], "good": good}), tmp_path / f"{name}.parquet")
    problem = Problem(ROWS, ROWS, ROWS, Axis("label", ("bad", "good")), ("a",))
    member = {"from": "table", "column": "good", "kind": "logits"}
    members = ({**member, "path": "one.parquet"}, {**member, "path": "two.parquet"})
    opened = Ensemble(members, weights=(3.0, 1.0), space="logits").open(problem, tmp_path)
    assert opened(ROWS.batch())["logits"][:, 1].tolist() == [1.5, 2.0, 2.5]
    equal = Ensemble(members, space="logits").open(problem, tmp_path)
    assert equal(ROWS.batch())["logits"][:, 1].tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(UserError, match="must be fitted on validation rows"):
        Ensemble(members, weights="validation").open(problem, tmp_path)
    with pytest.raises(UserError, match="member 1 says nothing under 'from'"):
        Ensemble(({"model": "ease"},)).open(problem, tmp_path)
    with pytest.raises(UserError, match="'members' is empty"):
        Ensemble(())


def test_a_column_sends_rows_to_one_member_and_the_others_are_for_all():
    table = pa.table({"a": [1.0, 2.0, 3.0], "b": [0.0, 5.0, -1.0], "language": ["en", "zh", "fr"]})
    rows = Rows(table, np.arange(3), "shop")
    members = [Says(("a",)), Says(("b",))]
    made = Ensemble(({}, {}), weights=(3.0, 1.0), space="logits", apart=True, route="language", to={"en": 0, "zh": 1})
    problem = Problem(rows, rows, rows, Axis("label", ("no", "yes")), ("a", "b"))
    joined = made.bind(members, problem)
    assert joined.reads == ("a", "b", "language")
    said = joined(rows.batch(joined.reads))
    assert said["share"].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.75, 0.25]]
    assert said["logits"][:, 1].tolist() == [1.0, 5.0, 0.75 * 3 - 0.25]
    assert said.kinds["share"] == "values"
    check_teacher(joined, rows)
    plain = Ensemble(({}, {}), space="logits", apart=True).bind(members, problem)
    assert plain.fingerprint != joined.fingerprint
    with pytest.raises(UserError, match="route is 'tongue'; the rows have a, b, language"):
        Ensemble(({}, {}), route="tongue", to={"en": 0}).bind(members, problem)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"route": "language"}, "give both"),
        ({"to": {"en": 0}}, "give both"),
        ({"route": "language", "to": {"en": 2}}, "there are members 0 to 1"),
    ],
)
def test_routes_that_lead_nowhere_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Ensemble(({}, {}), **settings)
