import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limbeck.data.parquet import Parquet
from limbeck.errors import UserError
from limbeck.types import Lists


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def test_rows_come_back_as_they_were_written(tmp_path):
    table = pa.table({"user": ["a", "b", None], "n": pa.array([1, 2, 3], pa.int32()), "tags": [["x"], [], ["y", "z"]]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    rows = Parquet("a.parquet").read(tmp_path).rows
    assert rows.table.equals(table)
    assert isinstance(rows.column("tags"), Lists)
    assert rows.column("tags")[2] == ["y", "z"]


def test_categories_with_a_dictionary_in_every_group_are_spelt_out(tmp_path):
    path = tmp_path / "a.parquet"
    pieces = [pa.array(words).dictionary_encode() for words in (["a", "b"], ["c", "a"])]
    schema = pa.schema({"c": pieces[0].type})
    with pq.ParquetWriter(path, schema) as writer:
        for piece in pieces:
            writer.write_table(pa.table([piece], schema=schema))
    assert Parquet("a.parquet").read(tmp_path).rows.column("c") == ["a", "b", "c", "a"]


@pytest.mark.parametrize("keep", [3, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:keep])
    with pytest.raises(UserError, match=r"a\.parquet is not whole or not parquet"):
        Parquet("a.parquet").read(tmp_path)


def test_a_damaged_page_is_refused_and_nothing_is_kept(tmp_path):
    values = [f"text {i} {i * 7919 % 10007}" for i in range(20000)]
    pq.write_table(pa.table({"a": values}), tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    whole[200:2000] = bytes(1800)
    (tmp_path / "a.parquet").write_bytes(whole)
    with pytest.raises(UserError, match=r"a\.parquet is not whole"):
        Parquet("a.parquet").read(tmp_path)
    assert list((tmp_path / "cache" / "rows").iterdir()) == []


def test_no_rows_and_names_twice_are_refused(tmp_path):
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no rows"):
        Parquet("a.parquet").read(tmp_path)
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "b.parquet")
    with pytest.raises(UserError, match="'a' more than once"):
        Parquet("b.parquet").read(tmp_path)
