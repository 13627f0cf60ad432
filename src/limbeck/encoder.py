"""Columns to tensors: fitted on training rows only, deterministic, and saved with the artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import parts
from limbeck.room import check_room
from limbeck.types import Array, Batch, Rows, fingerprint

SOME = 64
"""Rows by which the memory for all is reckoned."""
PAD, UNKNOWN, RESERVED = 0, 1, 2
"""Ids 0 and 1 of every vocabulary mean padding and 'not seen in training'; known values start at 2."""


def as_text(raw: Any) -> pa.Array:
    """Raw values as Arrow text, so that the number 7 and the text "7" are one value."""
    array = pa.array(raw)
    return array if pa.types.is_string(array.type) else pc.cast(array, pa.string())


def lookup(values: Sequence[str], raw: Any) -> Array:
    """Positions of raw values in a vocabulary; -1 where it does not hold them. Int64, one a value.

    >>> lookup(("a", "b"), ["b", "x", "a"])
    array([ 1, -1,  0])
    """
    if len(raw) == 0:
        return np.zeros(0, np.int64)
    found = pc.index_in(as_text(raw), value_set=pa.array(values, pa.string()))
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)


class Encoding(Protocol):
    """One column, or several, to one or more tensors. A file in `encoders/`; no torch, so the base install can answer.

    `kind` is the file's name. Two encodings of equal fingerprints answer alike. One that pads
    sequences names those tensors, longest-read first, in an attribute `padded`. One of values that a model
    learns one by one, such as users, says in a method `knows` which of them were there in training; one of `Lists`,
    in a method `misses`, which of all their values were not. One that reads
    several columns at once names them in an attribute `columns`, and is called with a mapping of them by name.
    """

    kind: str
    column: str

    def __call__(self, column: Any) -> dict[str, Array]:
        """The tensors of a raw column (array, list of str or `Lists`), first axis the row."""
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write files into the folder where needed; return the JSON settings `load` takes."""
        ...

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Encoding:
        """Read what `save` wrote."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of everything that decides an answer."""
        ...


class Encoder:
    """A row's columns to a model's tensors.

    Args:
        encodings: in the order their tensors are named; tensor names must not clash.
    """

    def __init__(self, encodings: Sequence[Encoding]) -> None:
        self.encodings = tuple(encodings)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns its encodings take, once each."""
        return tuple(dict.fromkeys(name for e in self.encodings for name in _columns(e)))

    @property
    def padded(self) -> tuple[tuple[str, ...], ...]:
        """Groups of tensors that are padded alike on the right, as their encodings declare under `padded`."""
        groups = [tuple(getattr(e, "padded", ())) for e in self.encodings]
        return tuple(group for group in groups if group)

    @property
    def fingerprint(self) -> str:
        """Of its encodings, in their order."""
        return fingerprint("encoder", 1, encodings=[e.fingerprint for e in self.encodings])

    def __getitem__(self, column: str) -> Any:
        """The encoding of a column (the first, where there are several)."""
        return next(e for e in self.encodings if column in _columns(e))

    def __call__(self, batch: Batch) -> dict[str, Array]:
        """Tensors by name, first axis the row."""
        tensors: dict[str, Array] = {}
        for encoding in self.encodings:
            several = hasattr(encoding, "columns")
            tensors.update(encoding(batch.only(_columns(encoding)) if several else batch[encoding.column]))
        return tensors

    def rows(self, rows: Rows, size: int = 8192) -> dict[str, Array]:
        """The tensors of many rows, computed in pieces and padded alike (right, with 0).

        Raises:
            UserError: they would not fit into memory, found by a few of them.
        """
        if len(rows) > SOME:
            check_room(self(next(iter(rows.batches(SOME, self.reads)))), len(rows))
        pieces = [self(batch) for batch in rows.batches(size, self.reads)]
        return {name: stack([piece[name] for piece in pieces]) for name in (pieces[0] if pieces else {})}

    def save(self, folder: Path) -> None:
        """Write `encoder.json` and whatever files the encodings need."""
        folder.mkdir(parents=True, exist_ok=True)
        said = [{"kind": e.kind, "settings": e.save(folder)} for e in self.encodings]
        text = json.dumps({"version": 1, "encodings": said}, ensure_ascii=False, indent=1)
        (folder / "encoder.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Encoder:
        """Read what `save` wrote."""
        said: Mapping[str, Any] = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        return Encoder([parts.get("encoders", e["kind"]).load(folder, e["settings"]) for e in said["encodings"]])


def _columns(encoding: Encoding) -> tuple[str, ...]:
    """The columns an encoding takes."""
    return tuple(getattr(encoding, "columns", (encoding.column,)))


def stack(pieces: Sequence[Array]) -> Array:
    """Pieces end to end; second axes of different lengths are padded on the right with 0."""
    if pieces[0].ndim == 1:
        return np.concatenate(pieces)
    width = max(piece.shape[1] for piece in pieces)
    whole = np.zeros((sum(len(p) for p in pieces), width, *pieces[0].shape[2:]), pieces[0].dtype)
    start = 0
    for piece in pieces:
        whole[start : start + len(piece), : piece.shape[1]] = piece
        start += len(piece)
    return whole
