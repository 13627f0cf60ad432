import dataclasses
import hashlib
import http.server
import io
import json
import os
import socket
import tarfile
import threading
import zipfile

import pyarrow as pa
import pytest

from limbeck import fetch
from limbeck.errors import UserError
from limbeck.fetch import Pack, get_pack, list_packs, open_pack

SETUP = "import pathlib\npathlib.Path({path!r}).touch()\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{_closed_port()}/simple")


def _closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _wheel(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def _sdist(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


@pytest.fixture
def pack(monkeypatch):
    """Make packs of an archive's bytes, and let the functions find the last one made."""

    def make(data, file="a_pack-1.0-py3-none-any.whl", members=("a_pack/rows/",), **more):
        made = Pack(
            name="a-pack",
            package="a_pack",
            version="1.0",
            file=file,
            sha256=hashlib.sha256(data).hexdigest(),
            megabytes=0.1,
            licence="MIT",
            note="",
            members=members,
            **{"read": lambda folder: folder / "a_pack", **more},
        )
        monkeypatch.setattr(fetch, "find_pack", lambda name: made)
        return made

    return make


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve a package index of files at pip's index address; a page is HTML, or JSON."""
    folder = tmp_path / "index"
    (folder / "simple" / "a-pack").mkdir(parents=True)

    def serve(file, data, *, as_json=False):
        (folder / file).write_bytes(data)

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(folder))

            def do_GET(self):
                if not self.path.startswith("/simple/"):
                    return super().do_GET()
                links = {"meta": {"api-version": "1.1"}, "name": "a-pack", "files": [{"url": f"/{file}"}]}
                links["files"][0] |= {"filename": file, "hashes": {}}
                html = f"<html><body><a href='../../other'>other</a><a href='../../{file}'>{file}</a></body></html>"
                body = (json.dumps(links) if as_json else html).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json" if as_json else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return None

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")

    servers = []
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def _downloaded(tmp_path, pack, data):
    (tmp_path / "cache" / "downloads").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "downloads" / pack.file).write_bytes(data)


WHEEL = _wheel({"a_pack/__init__.py": "raise SystemExit", "a_pack/rows/x.txt": "xx", "a_pack/rows/sub/y.txt": "y"})


def test_every_pack_is_pinned_and_says_what_it_is():
    packs = list_packs()
    assert {"ml-100k", "fine-foods", "shopping-reviews-zh", "vader-amazon", "minilm", "fashion-mnist"} <= {
        p.name for p in packs
    }
    for pack in packs:
        assert len(pack.sha256) == 64
        assert pack.version in pack.file
        assert pack.file.endswith((".whl", ".tar.gz", ".deb"))
        assert pack.licence
        assert pack.megabytes > 0
        assert pack.note
        assert fetch.find_pack(pack.name) is pack


def test_a_name_nearly_right_is_offered():
    with pytest.raises(UserError, match="did you mean ml_100k"):
        get_pack("ml-100")


def test_the_users_own_download_is_looked_at_first_and_only_members_are_unpacked(tmp_path, pack):
    made = pack(WHEEL)
    assert not made.here
    _downloaded(tmp_path, made, WHEEL)
    folder = get_pack("a-pack")
    assert folder == tmp_path / "cache" / "packs" / f"a-pack-{made.sha256[:8]}"
    files = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert files == {"a_pack/rows/x.txt", "a_pack/rows/sub/y.txt", ".complete"}
    assert made.here
    assert open_pack("a-pack") == folder / "a_pack"
    assert [f.name for f in (tmp_path / "cache" / "packs").iterdir()] == [folder.name]


def test_a_pack_that_is_whole_is_not_fetched_again_and_one_that_is_not_is(tmp_path, pack):
    made = pack(WHEEL)
    _downloaded(tmp_path, made, WHEEL)
    folder = get_pack("a-pack")
    (tmp_path / "cache" / "downloads" / made.file).unlink()
    assert get_pack("a-pack") == folder
    (folder / "a_pack/rows/x.txt").write_text("x")
    assert not made.here
    with pytest.raises(UserError, match="cannot be had"):
        get_pack("a-pack")
    _downloaded(tmp_path, made, WHEEL)
    assert (get_pack("a-pack") / "a_pack/rows/x.txt").read_text() == "xx"


def test_other_bytes_than_the_pinned_ones_are_never_unpacked(tmp_path, pack):
    made = pack(WHEEL)
    _downloaded(tmp_path, made, WHEEL + b" ")
    with pytest.raises(UserError, match=f"has SHA-256 .*{made.sha256} is pinned"):
        get_pack("a-pack")
    assert list((tmp_path / "cache" / "packs").iterdir()) == []


def test_a_table_takes_the_place_of_the_files_and_is_made_again_for_a_new_revision(tmp_path, pack):
    def table(folder):
        return pa.table({"said": [(folder / "a_pack/rows/x.txt").read_text()]})

    made = pack(WHEEL, read=None, table=table, roles={"text": "said"})
    _downloaded(tmp_path, made, WHEEL)
    source = fetch.open_pack("a-pack")
    assert source.rows.column(source.rows.role("text")) == ["xx"]
    assert source.facts["licence"] == "MIT"
    assert {file.name for file in made.folder.rglob("*")} == {"rows.arrow", ".complete"}
    later = dataclasses.replace(made, revision=2)
    assert made.here
    assert not later.here
    assert later.fingerprint != made.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("file", ["a_pack-1.0-py3-none-any.whl", "a_pack-1.0.tar.gz"])
def test_without_an_index_it_is_said_what_to_do(tmp_path, pack, file):
    pack(b"", file=file)
    with pytest.raises(UserError) as refused:
        get_pack("a-pack")
    said = str(refused.value)
    for words in ("'a-pack'", "a_pack 1.0", f"download {file}", str(tmp_path / "cache" / "downloads")):
        assert words in said


@pytest.mark.slow
def test_a_password_in_the_index_address_is_not_shown(pack, monkeypatch):
    pack(b"", file="a_pack-1.0.tar.gz")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@127.0.0.1:{_closed_port()}/simple")
    with pytest.raises(UserError, match=r"127\.0\.0\.1: ") as refused:
        get_pack("a-pack")
    assert "secret" not in str(refused.value)


def test_without_pip_it_is_said_so(pack, monkeypatch):
    pack(WHEEL)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="no pip"):
        get_pack("a-pack")


@pytest.mark.slow
def test_a_wheel_comes_through_pip(pack, served):
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: a_pack\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    }
    inside = {"a_pack/rows/x.txt": "xx", **{f"a_pack-1.0.dist-info/{k}": v for k, v in about.items()}}
    data = _wheel({**inside, "a_pack-1.0.dist-info/RECORD": ""})
    served(pack(data).file, data)
    assert (get_pack("a-pack") / "a_pack/rows/x.txt").read_text() == "xx"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_source_archive_comes_from_pips_index_without_running_its_setup(tmp_path, pack, served, as_json):
    ran = tmp_path / "setup-ran"
    inside = {
        "setup.py": SETUP.format(path=str(ran)),
        "PKG-INFO": "Metadata-Version: 1.0\nName: a_pack\nVersion: 1.0\n",
    }
    data = _sdist({**{f"a_pack-1.0/{k}": v for k, v in inside.items()}, "a_pack-1.0/rows.txt": "rows"})
    served(pack(data, file="a_pack-1.0.tar.gz", members=("a_pack-1.0/rows.txt",)).file, data, as_json=as_json)
    folder = get_pack("a-pack")
    assert (folder / "a_pack-1.0/rows.txt").read_text() == "rows"
    assert not (folder / "a_pack-1.0/setup.py").exists()
    assert not ran.exists()


@pytest.mark.slow
def test_a_source_archive_comes_from_a_folder_that_pip_is_told_of(tmp_path, pack, monkeypatch):
    data = _sdist({"a_pack-1.0/rows.txt": "rows"})
    made = pack(data, file="a_pack-1.0.tar.gz", members=("a_pack-1.0/rows.txt",))
    (tmp_path / made.file).write_bytes(data)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert (get_pack("a-pack") / "a_pack-1.0/rows.txt").read_text() == "rows"


def _deb(files, packing="xz", name=None):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{packing}") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"./{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", name or f"data.tar.{packing}": data.getvalue()}
    parts = [b"!<arch>\n"]
    for member, held in members.items():
        parts.append(f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(held):<10}`\n".encode())
        parts.append(held + b"\n" * (len(held) % 2))
    return b"".join(parts)


DEB = _deb({"usr/share/a/x.txt": "xx", "usr/bin/evil": "no"})


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """An `apt-get` that brings these bytes, or says why not."""

    def bring(data, said="E: Unable to locate package a_pack"):
        (tmp_path / "bin").mkdir()
        (tmp_path / "package").write_bytes(data or b"")
        script = tmp_path / "bin" / "apt-get"
        does = f"cp {tmp_path / 'package'} a_pack_2.0_all.deb" if data else f"echo '{said}' >&2; exit 100"
        script.write_text(f"#!/bin/sh\n{does}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    return bring


@pytest.mark.parametrize("packing", ["xz", "gz"])
def test_a_debian_package_comes_through_apt_and_only_members_are_unpacked(pack, apt, packing):
    data = _deb({"usr/share/a/x.txt": "xx", "usr/bin/evil": "no"}, packing)
    apt(data)
    made = pack(data, file="a-pack_1.0_all.deb", members=("usr/share/a/",), read=lambda folder: folder)
    folder = open_pack("a-pack")
    assert folder == made.folder
    assert (folder / "usr/share/a/x.txt").read_text() == "xx"
    assert not (folder / "usr/bin").exists()


def test_another_build_of_a_package_will_do_if_the_pinned_files_are_the_same(pack, apt):
    apt(DEB)
    pins = {"usr/share/a/x.txt": hashlib.sha256(b"xx").hexdigest()}
    pack(b"an older build", file="a-pack_1.0_all.deb", members=tuple(pins), pins=pins)
    assert (get_pack("a-pack") / "usr/share/a/x.txt").read_text() == "xx"


@pytest.mark.parametrize(
    ("file", "megabytes"), [("a-pack_1.0_all.deb", 1e-5), ("a_pack-1.0.tar.gz", 0.1)], ids=["too large", "no .deb"]
)
def test_what_can_be_no_other_build_is_not_opened(pack, tmp_path, monkeypatch, file, megabytes):
    made = pack(b"the pinned one", file=file, members=("x.txt",), pins={"x.txt": "0" * 64})
    made = dataclasses.replace(made, megabytes=megabytes)
    monkeypatch.setattr(fetch, "find_pack", lambda name: made)
    monkeypatch.setattr(fetch, "unpack", lambda *_: pytest.fail("it was opened"))
    _downloaded(tmp_path, made, DEB)
    with pytest.raises(UserError, match=r"is not the pinned one, and of other builds only a \.deb of at most"):
        get_pack("a-pack")
    assert not made.folder.exists()


def test_other_bytes_in_a_pinned_file_are_refused_and_nothing_is_kept(pack, apt, tmp_path):
    apt(DEB)
    pins = {"usr/share/a/x.txt": hashlib.sha256(b"xy").hexdigest()}
    made = pack(DEB, file="a-pack_1.0_all.deb", members=tuple(pins), pins=pins)
    with pytest.raises(UserError, match="is pinned"):
        get_pack("a-pack")
    assert not made.folder.exists()


def test_without_apt_or_without_the_package_it_is_said_what_to_do(pack, apt, monkeypatch):
    pack(DEB, file="a-pack_1.0_all.deb")
    apt(None)
    with pytest.raises(UserError, match=r"Unable to locate package a_pack.*apt-get update.*download a-pack_1\.0_all"):
        get_pack("a-pack")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="no apt-get"):
        get_pack("a-pack")
