import io

import pytest
from PIL import Image

from limbeck.data.pictures import Pictures
from limbeck.errors import UserError
from limbeck.table import reader_for


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def folder(tmp_path, files):
    for at, name in enumerate(files):
        file = tmp_path / "shop" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        made = io.BytesIO()
        Image.new("L", (3, 2), at).save(made, "png")
        file.write_bytes(made.getvalue())
    return tmp_path


def test_a_folder_a_label(tmp_path) -> None:
    base = folder(tmp_path, ["shoes/b.png", "shoes/deep/a.PNG", "bags/c.jpg", "bags/.hidden.png", "readme.png"])
    (base / "shop" / "bags" / "notes.txt").write_text("not a picture")
    source = Pictures("shop/").read(base)
    assert source.rows.column("file") == ["bags/c.jpg", "shoes/b.png", "shoes/deep/a.PNG"]
    assert source.rows.column("label") == ["bags", "shoes", "shoes"]
    assert source.rows.roles == {"picture": "picture", "label": "label"}
    assert source.facts["files_left_out"] == 3
    assert source.rows.column("picture")[0] == (base / "shop" / "bags" / "c.jpg").read_bytes()
    assert reader_for("my/shop/") == "pictures"


def test_folders_of_parts_are_a_split(tmp_path) -> None:
    base = folder(tmp_path, ["train/x/1.png", "train/y/2.png", "val/x/3.png", "test/y/4.png"])
    rows = Pictures("shop/").read(base).rows
    assert dict(zip(rows.column("file"), rows.column("split"), strict=True)) == {
        "train/x/1.png": "train",
        "train/y/2.png": "train",
        "val/x/3.png": "validation",
        "test/y/4.png": "test",
    }
    assert set(rows.column("label")) == {"x", "y"}


def test_another_picture_is_another_source_and_the_same_ones_are_the_same(tmp_path) -> None:
    base = folder(tmp_path, ["x/1.png", "y/2.png"])
    first = Pictures("shop/").read(base).rows
    assert Pictures("shop/").read(base).rows.fingerprint == first.fingerprint
    (base / "shop" / "y" / "2.png").write_bytes((base / "shop" / "x" / "1.png").read_bytes())
    assert Pictures("shop/").read(base).rows.fingerprint != first.fingerprint


def test_what_cannot_be_meant_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        Pictures("shop/").read(tmp_path)
    base = folder(tmp_path, ["loose.png"])
    with pytest.raises(UserError, match="one folder a label"):
        Pictures("shop/").read(base)
    base = folder(tmp_path, ["train/x/1.png", "y/2.png"])
    with pytest.raises(UserError, match=r"beside folders of labels \('y'\)"):
        Pictures("shop/").read(base)
    with pytest.raises(UserError, match="leaves the recipe's folder"):
        Pictures("../shop/").read(base)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path) -> None:
    base = folder(tmp_path, ["x/1.png", "y/2.png"])
    (base / "secret.png").write_bytes(b"mine")
    (base / "shop" / "x" / "link.png").symlink_to(base / "secret.png")
    assert Pictures("shop/").read(base).rows.column("file") == ["x/1.png", "y/2.png"]
