"""What would not fit into memory is refused with the numbers, before the work."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from limbeck import room
from limbeck.encoder import Encoder
from limbeck.encoders.picture import Picture
from limbeck.errors import UserError
from limbeck.picture import blank
from limbeck.room import check_room, memory_left
from limbeck.types import Rows


def test_the_least_that_machine_and_container_leave_is_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(room, "CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    5000 kB\n")
    assert memory_left() == 5_120_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert memory_left() == 5_120_000
    (tmp_path / "memory.max").write_text("1000100\n")
    assert memory_left() == 1_000_000


@pytest.mark.parametrize(("left", "fits"), [(4000, True), (3999, False), (None, True)])
def test_rows_need_twice_their_bytes(monkeypatch: pytest.MonkeyPatch, left: int | None, fits: bool) -> None:
    monkeypatch.setattr(room, "memory_left", lambda: left)
    some = {"picture": np.zeros((5, 3, 2, 3), np.uint8), "size": np.zeros((5, 2), np.uint8)}
    if fits:
        check_room(some, 100)
        return
    with pytest.raises(UserError, match=r"100 rows of 18 bytes each \('picture', encoded\) need 4e-06 GB"):
        check_room(some, 100)


def test_pictures_that_would_fill_memory_are_refused_after_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(room, "memory_left", lambda: 300 * 100 * 100)
    encoder = Encoder([Picture("picture", size=(100, 100), channels=1)])
    call = Picture.__call__
    monkeypatch.setattr(Picture, "__call__", lambda self, column: seen.append(len(column)) or call(self, column))
    rows = Rows(pa.table({"picture": pa.array([blank()] * 151, pa.binary())}), np.arange(151), "s", {})
    with pytest.raises(UserError, match=r"151 rows of 10,000 bytes each .* need 0.003 GB .*, and 0.003 GB are left"):
        encoder.rows(rows)
    assert sum(seen) == 64
    assert len(encoder.rows(rows.slice(0, 150))["picture"]) == 150
