"""One JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pyarrow import json as arrow_json

from limbeck.errors import UserError
from limbeck.table import Conversion, Roles, check_text, read_file
from limbeck.task import Source

BLOCK = 1 << 24
"""Bytes parsed at a time; the longest line there may be."""


@dataclass(frozen=True)
class Jsonl:
    """A file of JSON lines; a name that a line lacks is null there.

    Args:
        path: the file; relative paths count from the recipe's folder.
        roles: role -> column, or columns for `privileged`.
    """

    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")
    path: str
    roles: Roles = field(default_factory=dict)

    def read(self, base: Path) -> Source:
        """The rows of the file, named from the folder `base`."""
        return read_file(self.path, base, self.roles, Conversion("jsonl", _convert))


def _convert(file: Path) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    check_text(file)
    try:
        table = arrow_json.read_json(
            file,
            arrow_json.ReadOptions(block_size=BLOCK),
            arrow_json.ParseOptions(newlines_in_values=False),
        )
    except pa.ArrowInvalid as wrong:
        raise UserError(f"{file.name}: {_first_wrong(file) or wrong}") from wrong
    return table.schema, table.combine_chunks().to_batches()


def _first_wrong(file: Path) -> str | None:
    """Which line Arrow tripped over, since it counts within blocks and only sometimes says."""
    kinds: dict[str, tuple[type, int]] = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                said = json.loads(line)
            except ValueError as wrong:
                return f"line {number} is not JSON: {wrong}"
            if not isinstance(said, dict):
                return f'line {number} is not a JSON object such as {{"text": "..."}}'
            for name, value in said.items():
                kind = float if type(value) is int else type(value)
                first, where = kinds.setdefault(name, (kind, number)) if value is not None else (kind, number)
                if kind is not first:
                    return f"'{name}' is {_json(kind)} in line {number} but {_json(first)} in line {where}"
    return None


def _json(kind: type) -> str:
    return {dict: "an object", list: "an array", str: "a string", float: "a number", bool: "a boolean"}[kind]
