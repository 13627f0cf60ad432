"""A folder of pictures, one folder a label: what vision people call an ImageFolder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from limbeck.cache import cache_folder
from limbeck.errors import UserError, few
from limbeck.split import PARTS
from limbeck.table import Roles, digest, explained, find_source, map_table, source_of, write_table
from limbeck.task import Source
from limbeck.types import fingerprint

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
BATCH = 256
"""Pictures converted at a time, so that a folder larger than memory can be read."""
VERSION = 1


@dataclass(frozen=True)
class Pictures:
    """A folder `LABEL/picture.png`, or `train/LABEL/picture.png` with `validation` (or `val`) and `test` beside it.

    Columns: `picture` (the file's bytes), `label` (the folder's name) and, in the second form, `split`, which have
    the roles of their names; and `file` (its path inside). Rows go by path. Files that are no pictures by their
    ending, hidden ones and links are counted and left out.

    Args:
        path: the folder, ending in `/`; a relative one counts from the recipe's folder.
        roles: role -> column, over those the columns have by themselves.
    """

    endings: ClassVar[tuple[str, ...]] = ("/",)
    path: str
    roles: Roles = field(default_factory=dict)

    def read(self, base: Path) -> Source:
        """The pictures of the folder, named from the folder `base`.

        Raises:
            UserError: there is no such folder, it holds no labelled picture, or only some of it is split.
        """
        folder = find_source(self.path, base)
        files, left_out = _files(folder)
        if not files:
            raise UserError(
                f"'{self.path}' holds no LABEL/picture ({', '.join(PICTURES)}); one folder a label was wanted"
            )
        named = [_named(file.relative_to(folder)) for file in files]
        split = _split(named, self.path)
        content = hashlib.sha256()
        for file in files:
            content.update(f"{file.relative_to(folder).as_posix()}\0{digest(file)}\n".encode())
        source = fingerprint("rows of pictures", VERSION, content=content.hexdigest())
        kept = cache_folder("rows") / f"{source}.arrow"
        if not kept.exists():
            with explained(folder, "pictures"):
                write_table(kept, _schema(split), _batches(folder, files, named, split=split), said=folder.name)
        own: Roles = {"picture": "picture", "label": "label", **({"split": "split"} if split else {})}
        facts = {"folder": folder.name, **({"files_left_out": left_out} if left_out else {})}
        return source_of(map_table(kept), source=source, roles={**own, **self.roles}, facts=facts)


def _files(folder: Path) -> tuple[list[Path], int]:
    """Pictures with a folder of their own, by path; and how many other files there are."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    inside = [file.relative_to(folder).parts for file in found]
    fit = [
        file.suffix.lower() in PICTURES
        and len(parts) > 1
        and not any(part.startswith(".") for part in parts)
        and file.resolve().is_relative_to(folder.resolve())
        for file, parts in zip(found, inside, strict=True)
    ]
    kept = [file for file, fits in zip(found, fit, strict=True) if fits]
    return kept, len(found) - len(kept)


def _named(inside: Path) -> tuple[str, str]:
    """Split and label of a picture's path inside the folder; the split is empty where the path names none."""
    first, *more = inside.parts[:-1]
    return (SPLITS[first.lower()], more[0]) if more and first.lower() in SPLITS else ("", first)


def _split(named: Sequence[tuple[str, str]], path: str) -> bool:
    """Whether the folders name parts."""
    outside = sorted({label for split, label in named if not split})
    there = {split for split, _ in named if split}
    if there and outside:
        raise UserError(
            f"'{path}' holds folders of parts ({', '.join(p for p in PARTS if p in there)}) beside folders of labels "
            f"({few(outside)}); put every label inside a part, or none"
        )
    return bool(there)


def _schema(split: bool) -> pa.Schema:
    fields = [("picture", pa.large_binary()), ("label", pa.string()), ("file", pa.string())]
    return pa.schema([*fields, *([("split", pa.string())] if split else [])])


def _batches(
    folder: Path, files: Sequence[Path], named: Sequence[tuple[str, str]], *, split: bool
) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(files), BATCH):
        some, told = files[start : start + BATCH], named[start : start + BATCH]
        columns = {
            "picture": [file.read_bytes() for file in some],
            "label": [label for _, label in told],
            "file": [file.relative_to(folder).as_posix() for file in some],
        }
        if split:
            columns["split"] = [part for part, _ in told]
        yield pa.RecordBatch.from_pydict(columns, _schema(split))
