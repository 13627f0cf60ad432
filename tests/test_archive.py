import tarfile

import pytest

from limbeck.archive import unpack
from limbeck.errors import UserError
from tests.test_fetch import DEB, WHEEL, _deb, _sdist, _wheel


@pytest.mark.parametrize("name", ["a/../../out.txt", "/a/out.txt", "a/..\\..\\out.txt", "a/C:out.txt"])
@pytest.mark.parametrize("make", [_wheel, _sdist])
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path, name, make):
    archive = tmp_path / ("a.whl" if make is _wheel else "a.tar.gz")
    archive.write_bytes(make({name: "out"}))
    with pytest.raises(UserError, match="leads out"):
        unpack(archive, ("a/", "/a/"), tmp_path / "in")
    assert not (tmp_path / "out.txt").exists()


def test_links_in_a_source_archive_are_not_followed_or_made(tmp_path):
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for kind, target in ((tarfile.SYMTYPE, "../secret"), (tarfile.LNKTYPE, "../secret"), (tarfile.FIFOTYPE, "")):
            entry = tarfile.TarInfo(f"a/{kind.decode()}")
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
        archive.addfile(tarfile.TarInfo("a/plain"))
    unpack(tmp_path / "a.tar.gz", ("a/",), tmp_path / "in")
    assert [str(f.relative_to(tmp_path / "in")) for f in (tmp_path / "in").rglob("*")] == ["a", "a/plain"]


def test_a_member_that_is_missing_is_named(tmp_path):
    (tmp_path / "a.whl").write_bytes(WHEEL)
    with pytest.raises(UserError, match=r"a\.whl lacks a_pack/rows/none\.txt, b/"):
        unpack(tmp_path / "a.whl", ("a_pack/rows/none.txt", "b/", "a_pack/rows/"), tmp_path / "in")


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"not one", "does not begin as one"), (DEB[:140], "no data.tar"), (_deb({}, "xz", "data.tar.zst"), "zst")],
)
def test_a_debian_package_that_is_none_is_refused(tmp_path, data, said):
    archive = tmp_path / "a.deb"
    archive.write_bytes(data)
    with pytest.raises(UserError, match=said):
        unpack(archive, ("usr/",), tmp_path / "out")
