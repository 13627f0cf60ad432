"""Texts to the ids of their characters."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.encoder import RESERVED, UNKNOWN
from limbeck.encoders._padding import padded
from limbeck.errors import UserError
from limbeck.types import Array, fingerprint


class Characters:
    """Ids of a text's characters: 0 padding, 1 unknown, known characters from 2.

    Args:
        column: its name; the tensor is `ids`.
        known: the known characters, in the order of their ids.
        length: characters kept a text, from its start.
        lowercase: forget capitals.
    """

    kind = "characters"

    def __init__(self, column: str, known: str, *, length: int = 512, lowercase: bool = True) -> None:
        if length < 1:
            raise UserError(f"length is {length}; it must be at least 1")
        self.column = column
        self.known = known
        self.length = length
        self.lowercase = lowercase
        self.padded = ("ids",)
        points = _points(known)
        self._order = np.argsort(points)
        self._points = points[self._order]

    @classmethod
    def fit(
        cls, column: str, texts: Sequence[str], *, vocabulary: int = 1000, length: int = 512, lowercase: bool = True
    ) -> Characters:
        """The commonest characters of training texts, those that occur once left out.

        Args:
            column: its name.
            texts: training rows only.
            vocabulary: ids at most, the two reserved ones included.
            length: characters kept a text.
            lowercase: forget capitals.
        """
        if vocabulary <= RESERVED:
            raise UserError(f"vocabulary is {vocabulary}; it must be above {RESERVED}, the reserved ids")
        every = _points("".join(_clean(text, len(text), lowercase) for text in texts))
        points, counts = np.unique(every, return_counts=True)
        order = np.argsort(-counts, kind="stable")[: vocabulary - RESERVED]
        return cls(column, _string(points[order[counts[order] > 1]]), length=length, lowercase=lowercase)

    def __len__(self) -> int:
        """Rows an embedding table needs, the reserved ids included."""
        return len(self.known) + RESERVED

    def __call__(self, column: Sequence[str]) -> dict[str, Array]:
        """`ids`, int64 (B, L), L at least 1 and at most `length`, padded on the right."""
        cut = [_clean(text, self.length, self.lowercase) for text in column]
        counts = np.fromiter(map(len, cut), np.int64, len(cut))
        points = _points("".join(cut))
        if not len(self._points):
            return {"ids": padded(np.full(len(points), UNKNOWN, np.int64), counts)}
        place = np.minimum(np.searchsorted(self._points, points), len(self._points) - 1)
        ids = np.where(self._points[place] == points, self._order[place] + RESERVED, UNKNOWN)
        return {"ids": padded(ids.astype(np.int64), counts)}

    @property
    def fingerprint(self) -> str:
        """Of the characters and the cut."""
        points = _points(self.known).tolist()
        return fingerprint(
            "characters", 1, column=self.column, known=points, length=self.length, lowercase=self.lowercase
        )

    def save(self, folder: Path) -> dict[str, Any]:
        """One JSON file of the known characters."""
        name = f"{self.column}.characters.json"
        (folder / name).write_text(json.dumps(self.known), encoding="utf-8")
        return {"column": self.column, "file": name, "length": self.length, "lowercase": self.lowercase}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Characters:
        """Read what `save` wrote."""
        known = json.loads((folder / settings["file"]).read_text(encoding="utf-8"))
        return cls(settings["column"], known, length=settings["length"], lowercase=settings["lowercase"])


def _clean(text: str, length: int, lowercase: bool) -> str:
    # Composing shortens by a few marks a character at most, so what is cut first cannot be missed later.
    text = unicodedata.normalize("NFC", text[: 4 * length])
    return (text.lower() if lowercase else text)[:length]


def _points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _string(points: Array) -> str:
    return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
