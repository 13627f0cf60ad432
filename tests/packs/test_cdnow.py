import numpy as np
import pytest

from limbeck.fetch import open_pack
from limbeck.task import Source

pytestmark = pytest.mark.slow


def test_it_holds_as_many_customers_and_purchases_as_are_published() -> None:
    source = open_pack("cdnow")
    assert isinstance(source, Source)
    rows = source.rows
    customer, part = np.array(rows.column("customer")), np.array(rows.column("sample"))
    assert len(rows) == 69_659
    assert len(np.unique(customer)) == 23_570
    assert int(rows.column("cds").sum()) == 167_881
    dates = rows.table.column("date").to_numpy().astype("datetime64[D]")
    assert (dates.min(), dates.max()) == (np.datetime64("1997-01-01"), np.datetime64("1998-06-30"))
    # The published sample: 2,357 customers with 6,919 transactions.
    assert (part == "test").sum() == 6_919
    assert len(np.unique(customer[part == "test"])) == 2_357
    # Nobody is in two parts.
    assert len({(c, p) for c, p in zip(customer, part, strict=True)}) == 23_570
    assert 0.1 < len(np.unique(customer[part == "validation"])) / 23_570 < 0.13
