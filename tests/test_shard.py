"""A shard is an Arrow file that anybody can map, and its record shows its own damage."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from limbeck import shard
from limbeck.chunk import Chunk
from limbeck.errors import StoreDamaged, UserError
from limbeck.knowledge import Knowledge, keep
from limbeck.shard import Settings
from limbeck.types import Signals

KINDS = {"x": "embedding", "y": "values"}


@pytest.fixture
def made(tmp_path):
    values = np.random.default_rng(0).standard_normal((41, 3, 5)).astype(np.float32)
    chunk = Chunk(np.arange(41), np.arange(41) * 2, np.ones(41, np.int64), np.arange(41, dtype=np.uint64))
    settings = Settings("t", "s", KINDS, Knowledge("bfloat16"), people=True)
    kept = keep(settings.knowledge, Signals({"x": values, "y": values[:, 0, 0]}, KINDS), chunk.id, chunk.view)
    record, data = shard.build(settings, chunk, kept, np.array([5], np.uint64))
    shard.commit(tmp_path, record, data)
    return tmp_path, record, values[np.arange(41) != 5]


def test_arrow_reads_it_without_copying_and_finds_the_tags(made):
    folder, record, values = made
    before = pa.total_allocated_bytes()
    with pa.memory_map(str(folder / record.file)) as file:
        table = pa.ipc.open_file(file)
        assert table.num_record_batches == 1
        batch = table.get_batch(0)
    column = batch.column("x")
    numbers = column.values.to_numpy(zero_copy_only=True).reshape(len(batch), 3, 5)
    assert pa.total_allocated_bytes() == before
    bits = values.view(np.uint32)
    np.testing.assert_array_equal(numbers, (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)
    tags = batch.schema.field("x").metadata
    assert (tags[b"limbeck.dtype"], json.loads(tags[b"limbeck.shape"])) == (b"bfloat16", [3, 5])
    assert batch.schema.field("x").type == pa.list_(pa.uint16(), 15)
    for name, packed in shard.read(folder, record).items():
        said = batch.column(name)
        flat = said.values if pa.types.is_fixed_size_list(said.type) else said
        np.testing.assert_array_equal(packed.data.reshape(-1), flat.to_numpy())


def test_rows_of_a_forgotten_person_are_named_and_not_kept(made):
    folder, record, _ = made
    assert (record.rows, record.forgotten, record.ids, record.views) == (40, ((10, 1),), (0, 80), (1, 1))
    id, view = shard.read_keys(folder, record)
    np.testing.assert_array_equal(id, np.delete(np.arange(41) * 2, 5))
    assert (view == 1).all()


def test_the_record_comes_back_as_it_was(made):
    folder, record, _ = made
    assert shard.read_record(folder / f"{record.shard}.json") == record


def test_a_shard_is_the_same_bytes_each_time(made, tmp_path):
    folder, record, _ = made
    chunk = Chunk(np.arange(2), np.arange(2), np.zeros(2, np.int64))
    settings = Settings("t", "s", {"x": "values"})
    kept = keep(settings.knowledge, Signals({"x": np.ones((2, 3))}, {"x": "values"}), chunk.id, chunk.view)
    nobody = np.array([], np.uint64)
    (one, data), (other, again) = (shard.build(settings, chunk, kept, nobody) for _ in range(2))
    assert (one, bytes(data)) == (other, bytes(again))
    assert str(folder).encode() not in bytes(data)
    assert one.shard != record.shard


@pytest.mark.parametrize("consecutive", [True, False])
def test_damaged_keys_are_never_believed(tmp_path, consecutive):
    id = np.arange(9) if consecutive else np.arange(9) ** 2
    chunk = Chunk(np.arange(9), id, np.zeros(9, np.int64))
    settings = Settings("t", "s", {"x": "values"})
    kept = keep(settings.knowledge, Signals({"x": np.ones((9, 3))}, {"x": "values"}), chunk.id, chunk.view)
    record, data = shard.build(settings, chunk, kept, np.array([], np.uint64))
    shard.commit(tmp_path, record, data)
    assert record.consecutive == consecutive
    where = next(field.offset for field in record.fields if field.name == "key.id")
    spoiled = bytearray(data)
    spoiled[where] ^= 1
    (tmp_path / record.file).write_bytes(spoiled)
    if consecutive:
        np.testing.assert_array_equal(shard.read_keys(tmp_path, record)[0], id)
    else:
        with pytest.raises(StoreDamaged, match="checksum"):
            shard.read_keys(tmp_path, record)
    with pytest.raises(StoreDamaged, match="checksum"):
        shard.read(tmp_path, record)


def test_anything_that_changes_an_answer_changes_the_shard(tmp_path):
    chunk = Chunk(np.arange(2), np.arange(2), np.zeros(2, np.int64))
    moved = Chunk(np.arange(2), np.arange(2), np.ones(2, np.int64))
    base = Settings("t", "s", {"x": "values"})
    others = [
        Settings("u", "s", {"x": "values"}),
        Settings("t", "r", {"x": "values"}),
        Settings("t", "s", {"x": "embedding"}),
        Settings("t", "s", {"x": "values"}, Knowledge("bfloat16")),
        Settings("t", "s", {"x": "values"}, Knowledge(temperatures=(2.0,))),
    ]
    found = set()
    for settings, rows in [(base, chunk), (base, moved), *((other, chunk) for other in others)]:
        said = Signals({"x": np.ones((2, 3))}, settings.kinds)
        kept = keep(settings.knowledge, said, rows.id, rows.view)
        found.add(shard.build(settings, rows, kept, np.array([], np.uint64))[0].shard)
    assert len(found) == 2 + len(others)


@pytest.mark.parametrize("name", ["key", "x.ids"])
def test_a_signal_may_not_take_the_name_of_a_key_column(name):
    with pytest.raises(UserError, match="cannot be stored"):
        Settings("t", "s", {name: "values"})
