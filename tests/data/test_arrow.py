import struct

import pyarrow as pa
import pytest
from pyarrow import feather

from limbeck.data.arrow import Arrow
from limbeck.errors import UserError

TABLE = pa.table({"user": ["a", "b"], "n": [1, 2]})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def _write(path, table):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def test_the_file_is_mapped_and_not_copied(tmp_path):
    _write(tmp_path / "a.arrow", pa.table({"n": list(range(100_000))}))
    before = pa.total_allocated_bytes()
    rows = Arrow("a.arrow").read(tmp_path).rows
    assert pa.total_allocated_bytes() - before < 100_000  # the column alone is 800,000 bytes
    assert rows.column("n")[-1] == 99_999
    assert not (tmp_path / "cache").exists()


def test_feather_files_are_read(tmp_path):
    feather.write_feather(TABLE, str(tmp_path / "a.feather"), compression="lz4")
    assert Arrow("a.feather").read(tmp_path).rows.table.equals(TABLE)


def test_equal_bytes_are_one_source_wherever_they_lie(tmp_path):
    for name in ("a.arrow", "b.arrow"):
        _write(tmp_path / name, TABLE)
    assert Arrow("a.arrow").read(tmp_path).rows.source == Arrow("b.arrow").read(tmp_path).rows.source


@pytest.mark.parametrize("keep", [4, 100, -20])
def test_a_truncated_file_is_refused(tmp_path, keep):
    _write(tmp_path / "a.arrow", TABLE)
    (tmp_path / "a.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:keep])
    with pytest.raises(UserError, match="not whole or not an Arrow IPC file"):
        Arrow("a.arrow").read(tmp_path)


@pytest.mark.parametrize("offsets", [(0, 3, 10**6), (0, 10**6, 6), (0, -3, 6)])
def test_an_offset_that_points_outside_is_refused_before_it_is_followed(tmp_path, offsets):
    _write(tmp_path / "a.arrow", pa.table({"user": ["abc", "def"]}))
    right, wrong = (struct.pack("<3i", *o) for o in ((0, 3, 6), offsets))
    data = (tmp_path / "a.arrow").read_bytes()
    assert data.count(right) == 1
    (tmp_path / "a.arrow").write_bytes(data.replace(right, wrong))
    with pytest.raises(UserError, match="not whole"):
        Arrow("a.arrow").read(tmp_path)


def test_no_rows_and_names_twice_are_refused(tmp_path):
    _write(tmp_path / "a.arrow", TABLE.slice(0, 0))
    with pytest.raises(UserError, match="no rows"):
        Arrow("a.arrow").read(tmp_path)
    _write(tmp_path / "b.arrow", pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]))
    with pytest.raises(UserError, match="'a' more than once"):
        Arrow("b.arrow").read(tmp_path)
