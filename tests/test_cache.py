import pytest

from limbeck.cache import cache_folder
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
