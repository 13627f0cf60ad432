import zipfile

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from limbeck.cache import cache_folder
from limbeck.fetch import Pack, find_pack, open_pack
from limbeck.packs import complete_journey
from limbeck.task import Source

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source() -> Source:
    opened = open_pack("complete-journey")
    assert isinstance(opened, Source)
    return opened


def test_its_counts_are_those_its_readme_leads_to(source: Source) -> None:
    rows = source.rows
    assert len(rows) == 6589
    assert int(pc.sum(rows.table.column("redeemed")).as_py()) == 792
    assert pc.count_distinct(rows.table.column("campaign_id")).as_py() == 27
    # 801 households told about themselves; of the others nothing is known.
    known = rows.table.filter(pc.is_valid(rows.table.column("household_size"))).column("household_id")
    assert pc.count_distinct(known).as_py() <= 801


def test_it_says_that_it_is_simulated() -> None:
    assert "simulated data based on real patterns" in find_pack("complete-journey").note


def test_only_privileged_columns_know_of_the_campaigns_own_days(source: Source) -> None:
    later = [name for name in source.rows.names if name.endswith("_during")]
    assert set(later) == set(source.rows.roles["privileged"])
    assert len(later) == 5


def test_what_was_bought_before_is_counted_before_the_campaign_began(source: Source) -> None:
    """Against the raw tables, household by household, by a plain loop."""
    raw = _raw("transactions")
    when = raw.column("transaction_timestamp").to_numpy().astype("datetime64[D]")
    household, basket = raw.column("household_id").to_numpy(), raw.column("basket_id").to_numpy()
    spent = raw.column("sales_value").to_numpy()
    for row in source.rows.table.take([0, 700, 3000, 6588]).to_pylist():
        start = np.datetime64(row["start_date"], "D")
        mine = (household == row["household_id"]) & (when < start)
        assert np.expm1(row["spent_before"]) == pytest.approx(spent[mine].sum(), abs=1e-6)
        assert np.expm1(row["visits_before"]) == pytest.approx(len(set(basket[mine].tolist())), abs=1e-6)
        lately = mine & (when >= start - np.timedelta64(complete_journey.LATELY, "D"))
        assert np.expm1(row["articles_lately"]) == pytest.approx(lately.sum(), abs=1e-6)
        last = (start - when[mine].max()) / np.timedelta64(1, "D") if mine.any() else None
        assert row["days_since_last"] == last


def _raw(name: str):  # type: ignore[no-untyped-def]  # an Arrow table
    """A table of the archive itself."""
    pack: Pack = find_pack("complete-journey")
    archive = cache_folder("downloads") / pack.file
    if not archive.exists():
        pytest.skip("the archive was fetched, used and not kept")
    with zipfile.ZipFile(archive) as opened, opened.open(f"{complete_journey.INSIDE}{name}.parquet") as file:
        return pq.read_table(file)
