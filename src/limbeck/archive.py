"""The plain files of an archive that was fetched, taken out without running anything it holds."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from limbeck.errors import UserError

AR_MAGIC, AR_HEADER = b"!<arch>\n", 60


def unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Write the wanted members of a wheel, a source archive or a Debian package under `folder`.

    Members go by their names inside.

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
    elif archive.suffix == ".deb":
        with archive.open("rb") as package, tarfile.open(fileobj=_payload(package, archive.name)) as source:
            yield _plain_files(source)
    else:
        with tarfile.open(archive) as source:
            yield _plain_files(source)


def _plain_files(source: tarfile.TarFile) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    # Debian's names start with "./", which means nothing.
    return ((entry.name.removeprefix("./"), partial(_extracted, source, entry)) for entry in source if entry.isfile())


def _payload(package: IO[bytes], name: str) -> IO[bytes]:
    """The tar archive of a Debian package's files (deb(5): an `ar` archive of three members)."""
    if package.read(len(AR_MAGIC)) != AR_MAGIC:
        raise UserError(f"{name} is no Debian package: it does not begin as one")
    while len(header := package.read(AR_HEADER)) == AR_HEADER:
        member, size = header[:16].decode("ascii", "replace").strip(" /"), int(header[48:58])
        if member.startswith("data.tar"):
            if not member.endswith((".xz", ".gz", ".tar")):
                raise UserError(f"{name} is packed as {member}; .xz or .gz was wanted")
            return BytesIO(package.read(size))
        package.seek(size + size % 2, 1)
    raise UserError(f"{name} holds no data.tar; it is not whole")


def _extracted(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(entry)
    assert stream is not None, "a plain file has bytes"
    return stream
