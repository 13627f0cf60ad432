"""The folder of things that can be made again: converted rows and unpacked packs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from limbeck.errors import UserError


def cache_folder(*inside: str) -> Path:
    """A folder of the cache, made if need be: `LIMBECK_CACHE`, or the user's own cache folder.

    Raises:
        UserError: it cannot be made.
    """
    named = os.environ.get("LIMBECK_CACHE")
    folder = (Path(named) if named else user_cache_path("limbeck")).joinpath(*inside)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as wrong:
        raise UserError(
            f"the cache folder cannot be made ({wrong}); set LIMBECK_CACHE to a folder you can write"
        ) from wrong
    return folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place whole or not at all.

    The bytes are on the disk before the name changes, so a crash leaves the old file or the new one.
    """
    scratch = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
        sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring a folder's own list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
