"""Finds folders of pretrained networks: on this disk, in a pack, or on a hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.errors import UserError

if TYPE_CHECKING:
    from torch import nn

FILES = ["*.json", "*.safetensors", "*.txt"]
"""What is taken from a hub: never pickled weights, never code."""
NOT_HERE = "'{}' is not on this machine: its weights are not loaded"
"""Warned of where a saved network is built again, whose weights come next."""


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


def content_of(folder: Path) -> str:
    """A digest of the weights and settings that a folder holds: the same name may stand for others tomorrow."""
    told = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        told.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return told.hexdigest()


def body_of(folder: Path | None, config: Any, *, attention: str | None = None, spare: str = "") -> nn.Module:
    """A transformers network without a head, in float32: a folder's weights, or fresh ones where there is none.

    Args:
        folder: as `bring_folder` finds it. Safetensors only; code that comes with weights is never run.
        config: of the network.
        attention: how transformers computes it, where the network has a choice.
        spare: weights whose names begin so may be missing from the folder.

    Raises:
        UserError: the folder holds no safetensors, or they lack weights.
    """
    from torch import float32
    from transformers import AutoModel

    how = {"attn_implementation": attention, "dtype": float32}
    body: nn.Module
    if folder is None:
        body = AutoModel.from_config(config, **how)
        return body
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder.name} holds no safetensors, and pickled weights are never read; "
            "write them with `model.save_pretrained(folder)`"
        )
    safe = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    with _quiet():
        body, report = AutoModel.from_pretrained(folder, config=config, output_loading_info=True, **safe, **how)
    missing = sorted(name for name in report["missing_keys"] if not (spare and name.startswith(spare)))
    if missing:
        raise UserError(
            f"{folder.name}: the safetensors lack {len(missing)} weights of the network, {missing[0]} first"
        )
    return body


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar, and without the report on layers that were left out on purpose."""
    from transformers.utils import logging

    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()


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
