import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import checkpoint

STATE: dict[str, Any] = {
    "weights": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor(2.5, dtype=torch.bfloat16)},
    "optimizer": {
        "state": {0: {"step": torch.tensor(3), "mask": torch.tensor([True, False])}, 1: {}},
        "groups": [0.1, None],
    },
    "empty": torch.zeros(0, 4),
    "place": [1, 2.5, "text", True, math.inf],
}


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)  # numbers stay numbers
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert_same(a, b)
    else:
        assert found == wanted
        assert type(found) is type(wanted)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, STATE)
    assert_same(checkpoint.newest(tmp_path), STATE)


def test_a_state_without_tensors_comes_back(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"loss": math.nan, "tuple": (1, 2)})
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert math.isnan(found["loss"])
    assert found["tuple"] == [1, 2]


def test_a_saved_state_does_not_move_with_its_tensors(tmp_path: Path) -> None:
    weight = torch.zeros(3)
    shared = {"whole": weight, "part": weight[1:]}
    checkpoint.save(tmp_path, shared)
    weight += 1
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found["whole"].tolist() == [0, 0, 0]
    assert found["part"].tolist() == [0, 0]


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for number in (7, 5, 9, 2):
        checkpoint.save(tmp_path, {"number": number})
        assert checkpoint.newest(tmp_path) == {"number": number}
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [3, 4]


def test_a_tensor_that_stands_twice_is_written_once(tmp_path: Path) -> None:
    weight = torch.arange(1000.0)
    checkpoint.save(tmp_path, {"now": weight, "best": {"a": weight}})
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert torch.equal(found["now"], weight)
    assert torch.equal(found["best"]["a"], weight)
    assert next(tmp_path.glob("*/state.safetensors")).stat().st_size < 1.5 * weight.nbytes


def test_a_state_of_another_layout_is_passed_over(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, STATE)
    file = next(tmp_path.glob("*/manifest.json"))
    file.write_text(json.dumps({name: said for name, said in json.loads(file.read_text()).items() if name != "schema"}))
    assert checkpoint.newest(tmp_path) is None


def test_where_nothing_was_saved_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nowhere") is None
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["first byte", "middle byte", "last byte", "cut", "gone", "emptied"])
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    checkpoint.save(tmp_path, STATE)
    checkpoint.save(tmp_path, {**STATE, "place": [9]})
    file = tmp_path / f"{2:012d}" / name
    data = bytearray(file.read_bytes())
    place = {"first byte": 0, "middle byte": len(data) // 2, "last byte": -1}.get(damage)
    if place is not None:
        data[place] ^= 0x01
        file.write_bytes(data)
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-3] if damage == "cut" else b"")
    assert_same(checkpoint.newest(tmp_path), STATE)
    checkpoint.save(tmp_path, {"mended": True})
    assert checkpoint.newest(tmp_path) == {"mended": True}


def test_when_all_are_damaged_there_is_none(tmp_path: Path) -> None:
    for number in (1, 2):
        checkpoint.save(tmp_path, STATE)
        (tmp_path / f"{number:012d}" / "state.json").write_text("{}")
    assert checkpoint.newest(tmp_path) is None


def test_a_save_that_is_killed_leaves_the_last_one_and_no_trace_after_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, STATE)

    def pull_the_plug(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("limbeck.atomic.rename", pull_the_plug)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, {"place": 2})
    assert_same(checkpoint.newest(tmp_path), STATE)
    # What another, killed process left is cleared away too.
    os.rename(next(tmp_path.glob(".tmp.*")), tmp_path / ".tmp.1")
    checkpoint.save(tmp_path, {"place": 3})
    assert checkpoint.newest(tmp_path) == {"place": 3}
    assert not list(tmp_path.glob(".tmp.*"))


def test_random_numbers_go_on_where_they_were() -> None:
    state = checkpoint.random_state()
    first = torch.rand(5)
    checkpoint.set_random_state(state)
    assert torch.equal(torch.rand(5), first)


def test_saving_takes_a_twentieth_of_the_time_at_most() -> None:
    pace = checkpoint.Pace(30.0, last=100.0)
    assert not pace.due(129.9)
    assert pace.due(130.0)
    slow = checkpoint.Pace(30.0, last=100.0, cost=6.0)
    assert not slow.due(219.9)
    assert slow.due(220.0)
    assert checkpoint.Pace(0.0, last=100.0, cost=6.0).due(100.0)  # whoever asks for every epoch gets every epoch
