"""RecBole's atomic files: interactions in `.inter`, with `.user` and `.item` beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from limbeck.errors import UserError
from limbeck.table import Conversion, Roles, check_text, converted, find_file, source_of
from limbeck.task import Source
from limbeck.types import fingerprint

USUAL = {"user": "user_id", "item": "item_id", "label": "rating", "time": "timestamp"}
READ_AS = {"token": pa.string(), "float": pa.float64(), "token_seq": pa.string(), "float_seq": pa.string()}


@dataclass(frozen=True)
class Recbole:
    """Interactions with their users and items.

    Tokens stay strings and sequences become lists. Columns with RecBole's usual names have their
    usual roles unless `roles` says otherwise.

    Args:
        path: the `.inter` file; relative paths count from the recipe's folder.
        roles: role -> column, or columns for `privileged`.
    """

    endings: ClassVar[tuple[str, ...]] = (".inter",)
    path: str
    roles: Roles = field(default_factory=dict)

    def read(self, base: Path) -> Source:
        """The interactions, with side tables `user` and `item` where those files exist."""
        file = find_file(self.path, base)
        table, source = _read(file)
        sides, sources = {}, {"inter": source}
        for side in ("user", "item"):
            beside = Path(self.path).with_suffix(f".{side}")
            if (base / beside).exists():
                sides[side], sources[side] = _read(find_file(str(beside), base))
        usual = {role: column for role, column in USUAL.items() if column in table.column_names}
        return source_of(
            table,
            source=fingerprint("recbole", 1, **sources),
            roles={**usual, **self.roles},
            sides=sides,
            facts={"file": file.name},
        )


def _read(file: Path) -> tuple[pa.Table, str]:
    return converted(file, Conversion("recbole", _convert))


def _convert(file: Path) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    check_text(file)
    with file.open(encoding="utf-8-sig") as opened:
        header = [column.partition(":") for column in opened.readline().rstrip("\r\n").split("\t")]
    kinds = {name: kind for name, _, kind in header}
    wrong = [f"'{name}:{kind}'" for name, kind in kinds.items() if kind not in READ_AS]
    if wrong:
        raise UserError(
            f"{file.name}: the header says {', '.join(wrong)}; 'name:type' was wanted, separated by tabs, "
            f"with a type of {', '.join(READ_AS)}"
        )
    table = csv.read_csv(
        file,
        csv.ReadOptions(column_names=[name for name, _, _ in header], skip_rows=1, use_threads=False),
        csv.ParseOptions(delimiter="\t", quote_char=False),
        csv.ConvertOptions(column_types={name: READ_AS[kind] for name, kind in kinds.items()}, null_values=[""]),
    )
    for place, (name, kind) in enumerate(kinds.items()):
        if kind.endswith("_seq"):
            table = table.set_column(place, name, _split(table.column(name), READ_AS[kind.removesuffix("_seq")]))
    return table.schema, table.combine_chunks().to_batches()


def _split(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)  # "" would split into one ""
    return pc.split_pattern(filled, " ").cast(pa.list_(kind))
