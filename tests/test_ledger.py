from pathlib import Path

import numpy as np
import pytest

from limbeck import ledger
from limbeck.errors import StoreDamaged
from limbeck.knowledge import Knowledge
from limbeck.shard import Settings

SETTINGS = Settings("teacher", "source", {"logits": "logits"}, Knowledge())


def test_a_store_whose_making_was_killed_between_any_two_files_is_begun_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    ledger.begin(whole, SETTINGS, {})
    written = [ledger.FORGOTTEN[1], ledger.FORGOTTEN[0], ledger.SETTINGS[1], ledger.SETTINGS[0]]
    for count in range(len(written) + 1):
        folder = tmp_path / f"after {count}"
        folder.mkdir()
        for name in written[:count]:
            (folder / name).write_bytes((whole / name).read_bytes())
        ledger.begin(folder, SETTINGS, {})
        assert {name: (folder / name).read_bytes() for name in written} == {
            name: (whole / name).read_bytes() for name in written
        }
        assert not len(ledger.read_forgotten(folder))


def test_who_was_forgotten_in_the_moment_of_a_kill_stays_forgotten(tmp_path: Path) -> None:
    someone = np.array([7], np.uint64)
    ledger.write_forgotten(tmp_path, someone)
    (tmp_path / ledger.FORGOTTEN[0]).unlink()  # the backup is written first
    assert ledger.forgets(tmp_path)
    assert ledger.read_forgotten(tmp_path).tolist() == [7]
    ledger.begin(tmp_path, SETTINGS, {})
    assert ledger.read_forgotten(tmp_path).tolist() == [7]


def test_a_list_that_was_changed_behind_its_back_is_damage(tmp_path: Path) -> None:
    ledger.write_forgotten(tmp_path, np.array([7], np.uint64))
    backup = tmp_path / ledger.FORGOTTEN[1]
    backup.write_bytes(backup.read_bytes().replace(b"7", b"8", 1))
    with pytest.raises(StoreDamaged, match=ledger.FORGOTTEN[1]):
        ledger.read_forgotten(tmp_path)


def test_what_a_killed_process_left_of_the_origins_goes_with_the_next_one(tmp_path: Path) -> None:
    ledger.begin(tmp_path, SETTINGS, {"rows": "r"})
    (tmp_path / f"{ledger.ORIGINS}.tmp.1.ab").write_text("[{")
    ledger.note_origin(tmp_path, {"rows": "r"})
    assert not list(tmp_path.glob("*.tmp.*"))
    assert ledger.read_origins(tmp_path) == [{"rows": "r"}]
