from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.loader import TableLoader, parts_of
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.objective import Objective

torch.set_num_threads(1)


def loader(
    rows: int, batch_size: int, *, seed: int = 0, process: int = 0, processes: int = 1, **more: Any
) -> TableLoader:
    made = TableLoader({"x": np.arange(rows) * 10}, np.arange(rows) + 100, batch_size=batch_size, seed=seed, **more)
    made.process, made.processes = process, processes
    return made


def ids(of: TableLoader, epoch: int, start: int = 0) -> list[list[int]]:
    return [batch["id"].tolist() for batch in of.batches(epoch, start)]


def sequences(lengths: list[int], width: int = 9) -> dict[str, np.ndarray]:
    """Ids and the like of rows of these lengths, padded with 0."""
    there = np.arange(width) < np.array(lengths)[:, None]
    return {"ids": np.where(there, 7, 0), "mask": there.astype(np.int64)}


@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 9), st.integers(0, 50), st.booleans())
@settings(deadline=None)
def test_every_row_comes_once_an_epoch(rows: int, batch_size: int, seed: int, epoch: int, bucket: bool) -> None:
    lengths = np.random.default_rng(seed).integers(0, 9, rows)
    tensors = sequences(lengths.tolist())
    made = TableLoader(
        tensors, np.arange(rows), batch_size=batch_size, seed=seed, padded=[("ids", "mask")], bucket=bucket
    )
    batches = ids(made, epoch)
    assert Counter(i for batch in batches for i in batch) == Counter(range(rows))
    assert len(batches) == len(made)
    assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)


@pytest.mark.parametrize("bucket", [False, True])
def test_the_order_is_a_function_of_seed_and_epoch_alone(bucket: bool) -> None:
    def made(seed: int) -> TableLoader:
        more = sequences([i % 8 for i in range(50)])
        return TableLoader(more, np.arange(50), batch_size=4, seed=seed, padded=[("ids", "mask")], bucket=bucket)

    first = made(3)
    once = ids(first, 5)
    torch.manual_seed(99)
    ids(first, 6)  # neither other epochs nor torch's random state matter
    assert ids(first, 5) == once == ids(made(3), 5)
    assert ids(first, 6) != once
    assert ids(made(4), 5) != once


@given(st.integers(1, 40), st.integers(1, 9), st.data())
def test_it_goes_on_from_any_step(rows: int, batch_size: int, data: st.DataObject) -> None:
    made = loader(rows, batch_size)
    start = data.draw(st.integers(0, len(made)))
    assert ids(made, 2, start) == ids(made, 2)[start:]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.booleans())
def test_processes_divide_every_batch_and_no_row_counts_twice(
    rows: int, batch_size: int, processes: int, weighed: bool
) -> None:
    weight = {"weight": np.arange(1.0, rows + 1)} if weighed else {}
    all_of_it = TableLoader({"x": np.arange(rows), **weight}, np.arange(rows), batch_size=batch_size)
    whole = list(all_of_it.batches(1))
    shares = []
    for process in range(processes):
        all_of_it.process, all_of_it.processes = process, processes
        shares.append(list(all_of_it.batches(1)))
    for step, batch in enumerate(whole):
        counted: Counter[int] = Counter()
        for share in shares:
            mine = share[step]
            assert len(mine["id"])  # an empty share would have no mean
            for id, count in zip(mine["id"].tolist(), mine.get("weight", torch.ones(len(mine["id"]))), strict=True):
                counted[id] += count.item()
        assert counted == Counter({id: float(id + 1 if weighed else 1) for id in batch["id"].tolist()})


def test_a_short_last_batch_has_the_loss_of_its_rows_however_many_share_it() -> None:
    """Two rows among three processes: by shares, the sum over processes is the mean over the two."""
    made = TableLoader({"x": np.arange(5), "label": np.arange(5) % 3}, np.arange(5), batch_size=3)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    objective = Objective([("hard", CrossEntropy(), 1.0)])
    *_, last = made.batches(0)
    wanted, _ = objective({"logits": logits[last["x"]]}, {}, last)
    said = []
    for process in range(3):
        made.process, made.processes = process, 3
        *_, mine = made.batches(0)
        said.append(mine)
    counts = torch.stack([objective.denominators({}, mine)["hard"] for mine in said])
    assert counts.sum() == 2
    summed = sum(
        objective({"logits": logits[mine["x"]]}, {}, mine)[0] * count / counts.sum()
        for mine, count in zip(said, counts, strict=True)
    )
    assert torch.allclose(torch.as_tensor(summed), wanted)


def test_rows_keep_their_columns_together() -> None:
    made = TableLoader({"x": np.arange(20) * 10}, np.arange(20) + 100, batch_size=3, view=np.arange(20) * 2)
    for batch in made.batches(0):
        assert torch.equal(batch["x"], (batch["id"] - 100) * 10)
        assert torch.equal(batch["view"], (batch["id"] - 100) * 2)
    assert next(loader(3, 3).batches(0))["view"].tolist() == [0, 0, 0]


def test_groups_of_padded_tensors_are_cut_together_to_their_longest_row() -> None:
    lengths = [0, 1, 3, 5, 2, 9, 4, 0]
    tensors = {**sequences(lengths), "other": sequences([8 - n for n in range(8)])["ids"]}
    made = TableLoader(tensors, np.arange(8), batch_size=3, padded=[("ids", "mask"), ("other",)])
    for batch in made.batches(0):
        rows = batch["id"].tolist()
        assert batch["ids"].shape[1] == batch["mask"].shape[1] == max(1, *(lengths[i] for i in rows))
        assert batch["other"].shape[1] == max(8 - i for i in rows)
        assert batch["mask"].sum(1).tolist() == [lengths[i] for i in rows]


def test_a_zero_inside_a_row_is_not_its_end() -> None:
    made = TableLoader({"ids": np.array([[3, 0, 4, 0]])}, np.arange(1), batch_size=1, padded=[("ids",)])
    assert next(made.batches(0))["ids"].tolist() == [[3, 0, 4]]


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=8), st.integers(1, 3))
@settings(deadline=None)
def test_targets_are_padded_with_minus_one_and_keep_item_0(rows: list[list[int]], batch_size: int) -> None:
    width = max(1, *map(len, rows))
    padded = np.array([row + [-1] * (width - len(row)) for row in rows])
    made = TableLoader({"targets": padded}, np.arange(len(rows)), batch_size=batch_size, padded=[("targets",)])
    for batch in made.batches(0):
        kept = [[i for i in row if i >= 0] for row in batch["targets"].tolist()]
        assert kept == [rows[i] for i in batch["id"].tolist()]
        assert batch["targets"].shape[1] == max(1, *map(len, kept), 1)


def test_buckets_bring_rows_of_like_length_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 640).tolist()
    tensors = sequences(lengths, 30)

    def padding(bucket: bool) -> int:
        made = TableLoader(tensors, np.arange(640), batch_size=8, padded=[("ids", "mask")], bucket=bucket)
        return sum(int((batch["ids"] == 0).sum()) for batch in made.batches(0))

    assert padding(True) < padding(False) / 5


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(UserError, match="no rows to train on"):
        loader(0, 4)
    with pytest.raises(UserError, match=r"training.bucket groups rows by length, but this model reads no sequence"):
        loader(5, 2, bucket=True)


def test_parts_of_a_batch_are_as_even_as_can_be_and_no_more_than_its_rows() -> None:
    batch = {"x": torch.arange(7), "id": torch.arange(7)}
    assert [part["x"].tolist() for part in parts_of(batch, 3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [len(part["id"]) for part in parts_of(batch, 9)] == [1] * 7
    assert parts_of(batch, 1) == [batch]
