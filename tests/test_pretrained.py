from pathlib import Path

import pytest

from limbeck import fetch, pretrained
from limbeck.errors import UserError


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert pretrained.bring_folder(str(tmp_path)) == tmp_path
    assert pretrained.folder_here(str(tmp_path)) == tmp_path


def test_a_pack_is_opened_but_never_fetched_just_to_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "open_pack", lambda name: tmp_path / name)
    assert pretrained.bring_folder("pack: minilm") == tmp_path / "minilm"
    assert pretrained.folder_here("pack:minilm") is None


def test_a_pack_of_rows_is_not_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "open_pack", lambda name: object())
    with pytest.raises(UserError, match="holds rows"):
        pretrained.bring_folder("pack:fine_foods")


def test_what_is_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is no folder here"):
        pretrained.bring_folder("../not/there/at all")
    assert pretrained.folder_here("no-such-owner/no-such-network") is None


def test_a_relative_path_is_never_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "net").mkdir(parents=True)
    monkeypatch.chdir(inner)
    for source in ("../inner/net", "./net", "..", "."):
        assert pretrained.folder_here(source) is None
        with pytest.raises(UserError, match="wanted: the absolute path of a Hugging Face folder"):
            pretrained.bring_folder(source)
    asked = []
    monkeypatch.setattr(pretrained, "_snapshot", lambda source, *, local: asked.append(source) or tmp_path)
    assert pretrained.bring_folder("net") == tmp_path  # the hub's, though a folder here has the same name
    assert asked == ["net"]
    assert pretrained.bring_folder(str(inner / "net")) == inner / "net"
