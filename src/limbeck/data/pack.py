"""Rows that ship inside a package: see `limbeck data list`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from limbeck.errors import UserError
from limbeck.fetch import open_pack
from limbeck.table import Roles, source_of
from limbeck.task import Source


@dataclass(frozen=True)
class Pack:
    """A pack of rows, fetched once and read from the cache after that.

    Args:
        pack: its name, such as `ml-100k`.
        roles: role -> column, over the roles the pack gives its columns.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    pack: str
    roles: Roles = field(default_factory=dict)

    def read(self, base: Path) -> Source:
        """The pack's rows.

        Raises:
            UserError: it holds weights rather than rows, or cannot be had.
        """
        opened = open_pack(self.pack)
        if isinstance(opened, Path):
            raise UserError(f"pack '{self.pack}' holds weights, not rows; name it under teacher or student")
        if not self.roles:
            return opened
        rows = opened.rows
        roles = {**rows.roles, **self.roles}
        return source_of(rows.table, source=rows.source, roles=roles, sides=opened.sides, facts=opened.facts)
