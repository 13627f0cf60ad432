"""Files that are whole or absent: durable writes, JSON that shows its own damage, and a lock on a folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from limbeck.errors import UserError

MARK = ".tmp."
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def replace(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a reader, or a machine that loses power, sees all of it or what was there before.

    Raises:
        UserError: the disk is full; nothing of the new file is left behind.
    """
    with _written(path, data) as temporary:
        os.replace(temporary, path)


def publish(path: Path, data: bytes | memoryview) -> bool:
    """Write a file as `replace` does, unless there is one already; of several writers the first wins.

    Where the file system has no hard links, two writers within the same instant may both be told
    that they won; what lies there is still one whole file.

    Returns:
        Whether this call's bytes are the ones that lie there.

    Raises:
        UserError: the disk is full.
    """
    with _written(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as failed:
            if failed.errno not in _NO_LINKS:
                raise
            if path.exists():
                return False
            os.replace(temporary, path)
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place whole or not at all.

    Raises:
        UserError: the disk is full.
    """
    scratch = path.with_name(f"{path.name}{MARK}{os.getpid()}")
    try:
        yield scratch
        sync(scratch)
        os.replace(scratch, path)
        sync(path.parent)
    except OSError as failed:
        explain_full_disk(failed, path)
        raise
    finally:
        scratch.unlink(missing_ok=True)


def rename(place: Path, final: Path) -> None:
    """Give a finished folder its name: until then nobody sees it.

    What lies under that name already is replaced; a crash between the two leaves none of them.
    """
    if final.is_symlink() or final.is_file():
        final.unlink()
    shutil.rmtree(final, ignore_errors=True)
    sync(place)
    os.rename(place, final)
    sync(final.parent)


@contextmanager
def _written(path: Path, data: bytes | memoryview) -> Iterator[Path]:
    # Processes of two containers may share a number, hence the random end.
    temporary = path.with_name(f"{path.name}{MARK}{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            _fill(file, data)
        yield temporary
        sync(path.parent)
    except OSError as failed:
        explain_full_disk(failed, path, len(data))
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def explain_full_disk(failed: OSError, path: Path, size: int = 1_000_000) -> None:
    """Say in words that a write failed for want of room; return where it failed for another reason.

    Args:
        failed: what the system said.
        path: what was being written.
        size: of what was being written, in bytes.

    Raises:
        UserError: the disk, or the user's share of it, is full.
    """
    if failed.errno in _FULL:
        raise UserError(
            f"the disk is full while writing {path}; free at least {max(1, -(-size // 1_000_000))} MB and run the "
            "same command again: finished shards and steps are kept"
        ) from failed


def _fill(file: BinaryIO, data: bytes | memoryview) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's list of names, to the disk."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_folder(wanted: Path) -> None:
    """Refuse a place for a folder where a file lies, or where one lies on the way there.

    Raises:
        UserError: says which file.
    """
    for place in (wanted, *wanted.parents):
        if place.is_dir():
            return
        if place.exists():
            raise UserError(f"{place} is a file, and a folder was wanted; give --out another place")


def is_leftover(path: Path) -> bool:
    """Whether a name is that of an unfinished write."""
    return MARK in path.name


def seal(what: str, value: Any) -> bytes:
    """JSON with its own SHA-256, in the one spelling `unseal` accepts.

    Args:
        what: the sort of thing, so that no file passes for one of another sort.
        value: JSON; mappings have str keys.
    """
    body = json.dumps({what: value}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f'{{"body":{body},"sha256":"{hashlib.sha256(body.encode()).hexdigest()}"}}\n'.encode()


def unseal(what: str, data: bytes) -> Any:
    """The value `seal` wrote.

    Raises:
        ValueError: any byte differs from what `seal` would write.

    >>> unseal("count", seal("count", {"rows": 3}))
    {'rows': 3}
    """
    said = json.loads(data.decode())  # both of its errors are ValueErrors
    body = said.get("body") if isinstance(said, dict) else None
    if not isinstance(body, dict) or what not in body or seal(what, body[what]) != data:
        raise ValueError("its contents do not match its checksum")
    return body[what]


@contextmanager
def locked(folder: Path, *, alone: bool, waits: Callable[[], object] | None = None) -> Iterator[int | None]:
    """Hold a folder among processes: many at once, or alone. A killed process lets go.

    On Windows, which cannot lock a folder, this waits for nobody.

    Args:
        folder: which is there.
        alone: whether nobody else may hold it.
        waits: called once where another process holds it.

    Yields:
        The open folder; none on Windows.
    """
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if waits is not None:
                waits()
            fcntl.flock(handle, how)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def claimed(folder: Path, waits: Callable[[], object]) -> Iterator[bool]:
    """A folder that one process at a time fills and then renames; a killed process leaves it to the next.

    Args:
        folder: made where it is not there.
        waits: called once where another process has it.

    Yields:
        Whether it is this process's; not so where another one renamed or removed it meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            handle = held.enter_context(locked(folder, alone=True, waits=waits))
            ours = handle is None or os.path.samestat(os.fstat(handle), folder.stat())
        except FileNotFoundError:
            ours = False
        yield ours
