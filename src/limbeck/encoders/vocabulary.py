"""One value a row to an id: 0 padding, 1 unknown, known values from 2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.encoder import RESERVED, UNKNOWN, as_text, lookup
from limbeck.types import Array, fingerprint


class Vocabulary:
    """Ids of a categorical column.

    Args:
        column: its name; the tensor has the same name.
        values: the known values as text, in order of their ids.
    """

    kind = "vocabulary"

    def __init__(self, column: str, values: Sequence[str]) -> None:
        self.column = column
        self.values = tuple(values)

    @staticmethod
    def fit(column: str, raw: Any) -> Vocabulary:
        """The distinct values, sorted as text."""
        return Vocabulary(column, sorted(set(as_text(raw).to_pylist())))

    def __len__(self) -> int:
        """Rows an embedding table needs, the reserved ids included."""
        return len(self.values) + RESERVED

    def __call__(self, column: Any) -> dict[str, Array]:
        """Ids, int64 (B,)."""
        found = lookup(self.values, column)
        found[found < 0] = UNKNOWN - RESERVED
        return {self.column: found + RESERVED}

    def knows(self, column: Any) -> Array:
        """Whether values were there in training, bool (B,)."""
        return lookup(self.values, column) >= 0

    @property
    def fingerprint(self) -> str:
        """Of its column and values."""
        return fingerprint("vocabulary", 1, column=self.column, values=self.values)

    def save(self, folder: Path) -> dict[str, Any]:
        """One JSON file of values."""
        name = f"{self.column}.vocabulary.json"
        (folder / name).write_text(json.dumps(self.values, ensure_ascii=False), encoding="utf-8")
        return {"column": self.column, "file": name}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Vocabulary:
        """Read what `save` wrote."""
        return cls(settings["column"], json.loads((folder / settings["file"]).read_text(encoding="utf-8")))
