import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from limbeck.errors import UserError
from limbeck.logistic import ABSENT, logistic

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(80, 3))
LABEL = (FEATURES @ RANDOM.normal(size=(3, 3)) + RANDOM.normal(size=(80, 3))).argmax(1)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_on_labels_it_is_scikit_learns(form) -> None:
    coefficients, bias = logistic(form(FEATURES), np.eye(3)[LABEL], None, inverse_l2=2.0)
    wanted = LogisticRegression(C=2.0, max_iter=2000).fit(FEATURES, LABEL)
    np.testing.assert_allclose(coefficients, wanted.coef_, atol=1e-3)
    np.testing.assert_allclose(bias, wanted.intercept_, atol=1e-3)


def test_two_classes_share_the_margin_and_an_absent_one_is_far_below() -> None:
    two = np.eye(4)[np.where(LABEL > 0, 3, 1)]
    coefficients, bias = logistic(FEATURES, two, None, inverse_l2=1.0)
    np.testing.assert_allclose(coefficients[3], -coefficients[1])
    assert not coefficients[[0, 2]].any()
    assert bias[0] == bias[2] == ABSENT


def test_a_soft_target_is_as_good_as_rows_repeated() -> None:
    soft = np.array([[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]])
    rows = np.repeat([0, 1, 2], 4)
    label = np.array([0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1])
    told = logistic(FEATURES[:3], soft, np.full(3, 4.0), inverse_l2=1.0)
    spelt = logistic(FEATURES[rows], np.eye(2)[label], None, inverse_l2=1.0)
    for one, other in zip(told, spelt, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_rows_without_any_target_are_refused() -> None:
    with pytest.raises(UserError, match="no row has a target"):
        logistic(FEATURES, np.zeros((80, 2)), None, inverse_l2=1.0)


def test_ended_early_it_is_quiet_and_near(recwarn) -> None:
    near, _ = logistic(FEATURES, np.eye(3)[LABEL], None, inverse_l2=2.0, iterations=5)
    whole, _ = logistic(FEATURES, np.eye(3)[LABEL], None, inverse_l2=2.0)
    assert np.abs(near - whole).max() < 0.5
    assert not len(recwarn)
