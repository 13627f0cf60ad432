import numpy as np
import pytest
from scipy import sparse

from limbeck.encoder import Encoder
from limbeck.encoders.presence import Presence
from limbeck.models.majority import Majority


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_every_row_gets_the_smoothed_shares(form: object) -> None:
    family = Majority()
    module = family.module(Encoder([Presence("text")]), 3)
    target = np.eye(3)[[0, 0, 1]]
    for weight, counts in ((None, [2, 1, 0]), (np.array([1.0, 2.0, 4.0]), [3, 4, 0])):
        family.fit(module, {}, form(target), weight)  # type: ignore[operator]
        shares = (np.array(counts) + 1) / (sum(counts) + 3)
        np.testing.assert_allclose(np.exp(module.state_dict()["log_share"]), shares, rtol=1e-6)
