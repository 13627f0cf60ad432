import numpy as np
import pyarrow.compute as pc
import pytest

from limbeck.fetch import open_pack
from limbeck.task import Source

pytestmark = pytest.mark.slow


def test_clicks_and_propensities_are_those_of_its_files() -> None:
    source = open_pack("open-bandit")
    assert isinstance(source, Source)
    table = source.rows.table
    assert table.num_rows == 60_000
    clicks = [
        int(pc.sum(table.filter((pc.field("policy") == p) & (pc.field("campaign") == c)).column("click")).as_py())
        for p in ("random", "bts")
        for c in ("all", "men", "women")
    ]
    assert min(clicks) == 38
    assert max(clicks) == 69
    # The random policy shows each of a campaign's items as often.
    for campaign, items in (("all", 80), ("men", 34), ("women", 46)):
        some = table.filter((pc.field("policy") == "random") & (pc.field("campaign") == campaign))
        np.testing.assert_allclose(some.column("propensity").to_numpy(), 1 / items, atol=1e-6)
        assert pc.count_distinct(some.column("item_id")).as_py() <= items
    assert table.column("affinity").null_count == 0
