"""That a row is there: all that a constant answer needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from limbeck.types import Array, fingerprint


class Presence:
    """A 1 a row, whatever the column holds.

    Args:
        column: any column of the rows.
    """

    kind = "presence"

    def __init__(self, column: str) -> None:
        self.column = column

    def __call__(self, column: Any) -> dict[str, Array]:
        """`present`, float32 (B,), all 1."""
        return {"present": np.ones(len(column), np.float32)}

    @property
    def fingerprint(self) -> str:
        """Of the column's name."""
        return fingerprint("presence", 1, column=self.column)

    def save(self, folder: Path) -> dict[str, Any]:
        """No file."""
        return {"column": self.column}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Presence:
        """Read what `save` returned."""
        return cls(settings["column"])
