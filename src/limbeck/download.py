"""How a pinned package comes from its index: through pip, or apt, or straight, and never run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from limbeck.cache import cache_folder
from limbeck.errors import UserError

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


class Package(Protocol):
    """What is wanted: a pack's name, and what its index calls the package, its version and its file."""

    @property
    def name(self) -> str:
        """Of the pack."""
        ...

    @property
    def package(self) -> str:
        """Of the package."""
        ...

    @property
    def version(self) -> str:
        """The pinned one."""
        ...

    @property
    def file(self) -> str:
        """The archive's name."""
        ...


def download(pack: Package, archive: Path) -> None:
    """Write the package to `archive`: a wheel through pip, a Debian package through apt, a source archive itself.

    Raises:
        UserError: it cannot be had; the message says how else.
    """
    if pack.file.endswith(".whl"):
        _wheel(pack, archive)
    elif pack.file.endswith(".deb"):
        _debian(pack, archive)
    else:
        _sdist(pack, archive)


def _debian(pack: Package, archive: Path) -> None:
    """Apt brings the release's own version; what is inside is pinned, so another build of it will do."""
    if shutil.which("apt-get") is None:
        raise _not_had(pack, "it is a Debian package, and this machine has no apt-get")
    with tempfile.TemporaryDirectory(dir=archive.parent) as room:
        command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", pack.package]
        done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False)
        found = list(Path(room).glob("*.deb"))
        if done.returncode or not found:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            said = errors[-1].removeprefix("E: ") if errors else "apt-get brought nothing"
            raise _not_had(pack, f"{said} (`apt-get update` first, where its lists are old)")
        found[0].rename(archive)


def _wheel(pack: Package, archive: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise _not_had(pack, "this Python has no pip (python -m ensurepip brings it)")
    wanted = f"{pack.package}=={pack.version}"
    only = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *only, "--dest", str(archive.parent), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not archive.exists():
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise _not_had(pack, errors[-1] if errors else f"pip brought no {pack.file}")


def _sdist(pack: Package, archive: Path) -> None:
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


def _link(client: httpx.Client, index: str, pack: Package) -> str | None:
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


def _not_had(pack: Package, reason: str) -> UserError:
    return UserError(
        f"pack '{pack.name}' ({pack.package} {pack.version}) cannot be had: {reason}. Where there is no index, "
        f"download {pack.file} elsewhere and put it in {cache_folder('downloads')}"
    )
