import numpy as np
import pytest
import torch
from scipy import sparse

from limbeck.errors import UserError
from limbeck.estimator import Asked, LinearFeatures, TreeShares, both, check_clip
from limbeck.types import Array

RANDOM = np.random.default_rng(0)
INPUTS = {"features": RANDOM.normal(size=(40, 3)).astype(np.float32)}
SOFT = RANDOM.dirichlet(np.ones(3), 40)


def asked(target: Array, weight: Array | None = None) -> Asked:
    return Asked.of(INPUTS, target, weight)


def test_sparse_and_dense_targets_are_one() -> None:
    label = np.eye(3)[np.arange(40) % 3]
    np.testing.assert_array_equal(asked(sparse.csr_matrix(label)).shares, asked(label).shares)


def test_rows_without_target_or_weight_are_left_out_with_their_features() -> None:
    target, weight = SOFT.copy(), np.ones(40)
    target[:5], weight[5:12] = 0, 0
    found = asked(target, weight)
    np.testing.assert_array_equal(found.features, INPUTS["features"][12:])
    np.testing.assert_allclose(found.shares, SOFT[12:])


def test_the_sum_of_a_target_is_a_weight() -> None:
    mass = RANDOM.uniform(0.1, 1, 40)
    found = asked(SOFT * mass[:, None], np.full(40, 2.0))
    np.testing.assert_allclose(found.weight, 2 * mass)
    np.testing.assert_allclose(found.shares, SOFT)
    np.testing.assert_allclose(found.prior, np.average(SOFT, axis=0, weights=mass))


@pytest.mark.parametrize("target", [np.log(SOFT), 3 * SOFT, SOFT + 0.5])
def test_what_is_no_share_is_refused(target: Array) -> None:
    with pytest.raises(UserError, match="probabilities of classes"):
        asked(target)


def test_labelled_pairs_carry_the_whole_cross_entropy() -> None:
    """The weighted sum over labels is that over soft targets, whatever the model says."""
    found = asked(SOFT, RANDOM.uniform(0.5, 2, 40))
    said = np.log(RANDOM.dirichlet(np.ones(3), 40))
    row, label, share = found.labelled()
    whole = -(found.weight[:, None] * found.shares * said).sum()
    assert -(share * said[row, label]).sum() == pytest.approx(whole)


def test_margins_are_log_odds_or_centred_logarithms() -> None:
    two = asked(np.stack([SOFT[:, 0], 1 - SOFT[:, 0]], 1))
    odds = np.log((1 - SOFT[:, 0]).clip(0.01, 0.99) / SOFT[:, 0].clip(0.01, 0.99))
    np.testing.assert_allclose(two.margins(0.01)[:, 0], odds)
    np.testing.assert_allclose(two.margins(0.01), np.diff(np.log(two.shares.clip(0.01, 0.99))))
    three = asked(SOFT).margins(1e-9)
    np.testing.assert_allclose(three.sum(1), 0, atol=1e-9)
    np.testing.assert_allclose(np.exp(three) / np.exp(three).sum(1, keepdims=True), SOFT, atol=1e-6)


def test_one_margin_is_shared_by_two_logits() -> None:
    assert both(np.array([[4.0, -2.0]])).tolist() == [[-2.0, 1.0], [2.0, -1.0]]
    assert both(np.ones((3, 2))).shape == (3, 2)


def test_rows_are_drawn_by_torchs_seed() -> None:
    torch.manual_seed(3)
    one = asked(SOFT).drawn(10)
    torch.manual_seed(3)
    other = asked(SOFT).drawn(10)
    np.testing.assert_array_equal(one.features, other.features)
    assert len(one.features) == len(np.unique(one.features, axis=0)) == 10
    assert len(asked(SOFT).drawn(99).features) == 40


def test_untaught_modules_say_finite_things() -> None:
    features = torch.from_numpy(INPUTS["features"])
    assert LinearFeatures(3, 4)(features)["logits"].tolist() == [[0.0] * 4] * 40
    assert torch.isfinite(TreeShares(2)(features)["logits"]).all()


def test_a_clip_is_a_margin() -> None:
    for wrong in (0.0, 0.5, float("nan")):
        with pytest.raises(UserError, match="clip"):
            check_clip(wrong)
