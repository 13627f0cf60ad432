"""Arrow IPC files, mapped where they lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from limbeck.errors import UserError
from limbeck.table import Roles, check_names, digest, explained, find_file, source_of
from limbeck.task import Source
from limbeck.types import fingerprint


@dataclass(frozen=True)
class Arrow:
    """An Arrow file (Feather 2). It is mapped, so it must not change while it is in use.

    Args:
        path: the file; relative paths count from the recipe's folder.
        roles: role -> column, or columns for `privileged`.
    """

    endings: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")
    path: str
    roles: Roles = field(default_factory=dict)

    def read(self, base: Path) -> Source:
        """The rows of the file, named from the folder `base`."""
        file = find_file(self.path, base)
        source = fingerprint("rows of arrow", 1, content=digest(file), settings={})
        with explained(file, "an Arrow IPC file"):
            table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
            table.validate(full=True)  # offsets are followed without bounds later: a wrong one would crash Python
        check_names(table.schema, file.name)
        if not table.num_rows:
            raise UserError(f"{file.name} has columns but no rows")
        return source_of(table, source=source, roles=self.roles, facts={"file": file.name})
