"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.table import Conversion, Roles, read_file
from limbeck.task import Source

BATCH = 1 << 18
"""Rows converted at a time, so that a file larger than memory can be read."""


@dataclass(frozen=True)
class Parquet:
    """A Parquet file.

    Args:
        path: the file; relative paths count from the recipe's folder.
        roles: role -> column, or columns for `privileged`.
    """

    endings: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    path: str
    roles: Roles = field(default_factory=dict)

    def read(self, base: Path) -> Source:
        """The rows of the file, named from the folder `base`."""
        return read_file(self.path, base, self.roles, Conversion("parquet", _convert))


def _convert(file: Path) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    opened = pq.ParquetFile(file)
    return opened.schema_arrow, opened.iter_batches(BATCH)
