"""A list of items a row to padded ids: 0 padding, 1 unknown, catalogue position + 2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.encoder import RESERVED, UNKNOWN, lookup
from limbeck.types import Array, Lists, fingerprint


class History:
    """Ids of a multi-valued column over a catalogue, latest last.

    Args:
        column: its name; the tensor has the same name.
        values: the catalogue as text, in the order of the task's axis.
        length: how many of the latest items are kept.
    """

    kind = "history"

    def __init__(self, column: str, values: Sequence[str], *, length: int) -> None:
        self.column = column
        self.values = tuple(values)
        self.length = length
        self.padded = (column,)

    def __len__(self) -> int:
        """Rows an embedding table needs, the reserved ids included."""
        return len(self.values) + RESERVED

    def __call__(self, column: Lists) -> dict[str, Array]:
        """Ids, int64 (B, L), L at least 1 and at most `length`, padded on the right."""
        found = lookup(self.values, column.values)
        found[found < 0] = UNKNOWN - RESERVED
        counts = np.diff(column.offsets)
        kept = np.minimum(counts, self.length)
        padded = np.zeros((len(column), max(1, int(kept.max(initial=0)))), np.int64)
        rows = np.repeat(np.arange(len(column)), kept)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(kept) - kept, kept)
        first = np.repeat(column.offsets[:-1] + counts - kept, kept)
        padded[rows, within] = found[first + within] + RESERVED
        return {self.column: padded}

    def misses(self, column: Lists) -> Array:
        """Whether values are none of the catalogue's, bool, one each of all rows' end to end."""
        return lookup(self.values, column.values) < 0

    @property
    def fingerprint(self) -> str:
        """Of its column, catalogue and length."""
        return fingerprint("history", 1, column=self.column, values=self.values, length=self.length)

    def save(self, folder: Path) -> dict[str, Any]:
        """One JSON file of values."""
        name = f"{self.column}.catalogue.json"
        (folder / name).write_text(json.dumps(self.values, ensure_ascii=False), encoding="utf-8")
        return {"column": self.column, "file": name, "length": self.length}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> History:
        """Read what `save` wrote."""
        values = json.loads((folder / settings["file"]).read_text(encoding="utf-8"))
        return cls(settings["column"], values, length=settings["length"])
