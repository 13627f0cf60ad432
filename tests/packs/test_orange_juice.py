import shutil

import numpy as np
import pytest

from limbeck.errors import MissingExtra
from limbeck.fetch import find_pack, open_pack
from limbeck.packs import orange_juice


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_pack("orange-juice").here or shutil.which("apt-get")), reason="a Debian package, and no apt-get here"
)
def test_it_holds_913_series_whose_last_value_is_off_by_as_much_as_is_published():
    rows = open_pack("orange-juice").rows
    assert len(rows) == 106_139
    series, week, units = (np.array(rows.column(name)) for name in ("series", "week", "log_units"))
    assert len(np.unique(series)) == 913
    assert (week.min(), week.max()) == (40, 160)
    order = np.lexsort((week, series))
    follows = series[order][1:] == series[order][:-1]
    gap = np.abs(np.diff(units[order]))[follows & (week[order][1:] >= 149)]
    assert gap.mean() == pytest.approx(0.635, abs=5e-4)
    brand = np.array(rows.column("brand"))
    for name, price in zip(orange_juice.BRANDS, orange_juice.PRICES, strict=True):
        np.testing.assert_array_equal(rows.column("price")[brand == name], rows.column(price)[brand == name])


def test_without_the_reader_of_r_files_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rdata", None)
    with pytest.raises(MissingExtra, match="tabular"):
        orange_juice.table(tmp_path)
