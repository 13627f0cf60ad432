"""Finds folders of pretrained networks: on this disk, in a pack, or on a hub."""

from __future__ import annotations

import re
from pathlib import Path

from limbeck.errors import UserError

FILES = ["*.json", "*.safetensors", "*.txt"]
"""What is taken from a hub: never pickled weights, never code."""


def bring_folder(source: str) -> Path:
    """The Hugging Face folder that a recipe names, brought to this machine if need be.

    Args:
        source: the absolute path of a folder (or `~`), `pack:NAME`, or a hub name such as `org/name`, with
            `@revision` if wanted. A relative path is none of these: it could lead anywhere, and be taken
            for a hub name, so it is never looked at.

    Raises:
        UserError: there is no such folder, or it cannot be had.
    """
    pack = _pack(source)
    if pack is not None:
        from limbeck.fetch import open_pack

        folder = open_pack(pack)
        if not isinstance(folder, Path):
            raise UserError(f"pack '{pack}' holds rows, not the weights of a network")
        return folder
    return _folder(source) or _snapshot(source, local=False)


def folder_here(source: str) -> Path | None:
    """The same folder if it is on this machine already; none where it would have to be brought."""
    pack = _pack(source)
    if pack is not None:
        from limbeck.fetch import find_pack

        return bring_folder(source) if find_pack(pack).here else None
    folder = _folder(source)
    if folder is not None:
        return folder
    try:
        return _snapshot(source, local=True)
    except UserError:  # not here is an answer, not a mistake
        return None


def _folder(source: str) -> Path | None:
    path = Path(source).expanduser()
    return path if path.is_absolute() and path.is_dir() else None


def _pack(source: str) -> str | None:
    """The pack a source names, if it names one.

    >>> _pack("pack: minilm"), _pack("org/minilm")
    ('minilm', None)
    """
    kind, _, name = source.partition(":")
    return name.strip() if kind == "pack" else None


def _snapshot(source: str, *, local: bool) -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = source.partition("@")
    wanted = (
        f"'{source}' is no folder here; wanted: the absolute path of a Hugging Face folder, 'pack:NAME', "
        "or a hub name like 'org/name'"
    )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w-]+", name):
        raise UserError(wanted)
    try:
        found = snapshot_download(name, revision=revision or None, allow_patterns=FILES, local_files_only=local)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx.HTTPError) as wrong:
        reason = str(wrong).strip().splitlines()[0] if str(wrong).strip() else type(wrong).__name__
        raise UserError(f"{wanted}; the hub says: {reason}") from None
    return Path(found)
