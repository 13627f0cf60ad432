"""Comma- and tab-separated text with a header line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pyarrow import csv

from limbeck.errors import UserError
from limbeck.table import Conversion, Roles, check_text, read_file
from limbeck.task import Source


@dataclass(frozen=True)
class Csv:
    """A text table.

    Args:
        path: the file; relative paths count from the recipe's folder.
        roles: role -> column, or columns for `privileged`.
        delimiter: one character; by default a tab for `.tsv` and a comma otherwise.
        encoding: of the text.
        types: column -> Arrow type, where the type that is guessed is not the one meant
            (`string` keeps the zeros of `00123`).
    """

    endings: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    path: str
    roles: Roles = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str = "utf-8"
    types: dict[str, str] = field(default_factory=dict)

    def read(self, base: Path) -> Source:
        """The rows of the file, named from the folder `base`."""
        settings = {"delimiter": self._delimiter, "encoding": self.encoding, "types": self.types}
        return read_file(self.path, base, self.roles, Conversion("csv", self._convert, settings=settings))

    @property
    def _delimiter(self) -> str:
        return self.delimiter or ("\t" if self.path.lower().endswith(".tsv") else ",")

    def _convert(self, file: Path) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        check_text(file, self.encoding)
        if len(self._delimiter) != 1:
            raise UserError(f"data.delimiter is {self._delimiter!r}; one character was wanted")
        table = csv.read_csv(
            file,
            # One thread, for only then does Arrow know the number of a row that is wrong.
            csv.ReadOptions(encoding=self.encoding, use_threads=False),
            csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            csv.ConvertOptions(column_types={name: _type(said) for name, said in self.types.items()}),
        )
        return table.schema, table.combine_chunks().to_batches()


def _type(said: str) -> pa.DataType:
    try:
        return pa.type_for_alias(said)
    except ValueError:
        raise UserError(f"data.types names '{said}', which is no Arrow type; use string, int64, float64, ...") from None
