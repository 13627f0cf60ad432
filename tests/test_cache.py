import pytest

from limbeck.cache import cache_folder, replacing
from limbeck.errors import UserError


def test_the_environment_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "here"))
    assert cache_folder("rows") == tmp_path / "here" / "rows"
    assert (tmp_path / "here" / "rows").is_dir()


def test_a_cache_that_cannot_be_made_is_the_users_to_mend(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="LIMBECK_CACHE"):
        cache_folder("rows")


def _write_half(path):
    with replacing(path) as scratch:
        scratch.write_text("half")
        raise RuntimeError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        _write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_ends_takes_the_place_of_the_old_file(tmp_path):
    path = tmp_path / "value"
    path.write_text("old")
    with replacing(path) as scratch:
        scratch.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
