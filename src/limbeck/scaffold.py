"""A first recipe for rows of one's own: looks at the columns, guesses, and says what it guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from limbeck import parts
from limbeck.draft import distinct, line
from limbeck.errors import UserError
from limbeck.table import check_text, find_file, reader_for
from limbeck.task import Task
from limbeck.types import Rows

NAMES = {
    "user": ("user", "customer", "client", "member", "visitor", "buyer", "shopper", "session", "account", "household"),
    "item": ("item", "product", "sku", "article", "goods", "asin", "movie", "film", "offer"),
    "time": ("time", "timestamp", "date", "datetime", "at", "when", "day", "created", "ts"),
    "text": ("text", "review", "comment", "content", "body", "message", "description", "title", "sentence", "query"),
    "label": ("label", "class", "category", "sentiment", "target", "stars", "rating", "score", "polarity", "y"),
    "weight": ("weight", "weights"),
    "split": ("split", "part", "fold"),
    "id": ("id", "rowid", "uid", "index"),
}
"""Words that columns of a role are called by."""

CLASSES = 50
"""Different labels at most; more are no classes."""


@dataclass(frozen=True)
class Scaffold:
    """A recipe for a file.

    Args:
        text: YAML with comments.
        task: the question chosen.
        roles: role -> column, as guessed.
    """

    text: str
    task: str
    roles: dict[str, str]


def scaffold(file: Path, folder: Path, task: str | None = None) -> Scaffold:
    """Look at a file and write a recipe for it.

    Args:
        file: of rows, in any format that is read.
        folder: where the recipe will lie; a file inside it is named relatively.
        task: the question; by default the one that the columns answer.

    Raises:
        UserError: the file cannot be read, or its columns answer no question that is known here.
    """
    path = _named(file, folder)
    settings = _settings(find_file(path, folder), path)
    rows = parts.make("data", reader_for(path), {"path": path, **settings}).read(folder).rows
    roles = guess(rows)
    fitting = _fitting(roles)
    if task is None and not fitting:
        wanted = "; ".join(f"'{one.name}' needs {' and '.join(one.roles)}" for one in _drafted())
        raise UserError(
            f"the columns {', '.join(rows.names)} suggest no task ({wanted}); rename them, or write a recipe by hand"
        )
    chosen = parts.get("tasks", task) if task else fitting[0]
    if chosen.draft is None:
        known = ", ".join(one.name for one in _drafted())
        raise UserError(f"init writes recipes for {known}; for '{task}' start from a recipe in recipes/")
    lacking = [role for role in chosen.roles if role not in roles]
    if lacking:
        raise UserError(
            f"no column of {path} looks like the role {' or '.join(map(repr, lacking))} of task '{chosen.name}'; "
            f"there are: {', '.join(rows.names)}. Rename one, or write data.roles by hand"
        )
    used = {role: roles[role] for role in (*chosen.roles, *chosen.optional_roles, "id", "split") if role in roles}
    lines = [
        f"# Written by `limbeck init {file.name}` from a look at its columns: guesses, to be read and mended.",
        *(f"# The columns answer '{one.name}' too: --task {one.name}" for one in fitting if one is not chosen),
        f"task: {chosen.name}",
        "data:",
        *(f"  {key}: {_yaml(value)}" for key, value in {"path": path, **settings}.items()),
        "  roles:",
        *(line(f"    {role}: {_yaml(column)}", _why(rows, column)) for role, column in used.items()),
        *_rest(rows, used),
        "",
        *chosen.draft(rows, used),
    ]
    return Scaffold("\n".join(line.rstrip() for line in lines) + "\n", chosen.name, used)


def guess(rows: Rows) -> dict[str, str]:
    """Role -> column, by name first and by what a column holds; roles that rows bring already stay."""
    roles = {role: column for role, column in rows.roles.items() if isinstance(column, str)}
    for role in ("split", "id", "weight", "time", "user", "item", "label", "text"):
        fitting = [name for name in rows.names if name not in roles.values() and FITS[role](rows, name)]
        named = [name for name in fitting if _words(name) & set(NAMES[role])]
        if role in roles:
            continue
        if role == "text" and fitting:
            roles[role] = max(named or fitting, key=lambda name: _length(rows, name))
        elif role == "id":  # the whole name, for `user id` is no id of rows
            exact = [name for name in named if name.lower() in NAMES[role]]
            roles.update(zip([role], exact, strict=False))
        elif named:
            roles[role] = min(named, key=lambda name: _rank(role, name))
    return roles


def _rank(role: str, name: str) -> int:
    return min(NAMES[role].index(word) for word in _words(name) & set(NAMES[role]))


def _words(name: str) -> set[str]:
    """`bought_at`, `customerId` -> their words.

    >>> sorted(_words("customerId"))
    ['customer', 'customerid', 'id']
    """
    spaced = "".join(f" {c}" if c.isupper() else c if c.isalnum() else " " for c in name)
    words = spaced.lower().split()
    return {*words, *(word.rstrip("s") for word in words), name.lower()}


def _type(rows: Rows, name: str) -> pa.DataType:
    return rows.table.schema.field(name).type


def _is_text(rows: Rows, name: str) -> bool:
    return pa.types.is_string(_type(rows, name)) or pa.types.is_large_string(_type(rows, name))


def _whole(rows: Rows, name: str) -> bool:
    return bool(rows.table.column(name).null_count == 0) and not pa.types.is_nested(_type(rows, name))


def _length(rows: Rows, name: str) -> float:
    return float(pc.mean(pc.utf8_length(rows.table.column(name))).as_py() or 0.0)


def _fits_text(rows: Rows, name: str) -> bool:
    return _is_text(rows, name) and _length(rows, name) > 8 and distinct(rows, name) > CLASSES


def _fits_label(rows: Rows, name: str) -> bool:
    return _whole(rows, name) and not pa.types.is_temporal(_type(rows, name)) and 2 <= distinct(rows, name) <= CLASSES


def _fits_name(rows: Rows, name: str) -> bool:
    """Names users or items: whole numbers or text, and fewer of them than rows."""
    kind = _type(rows, name)
    return _whole(rows, name) and (pa.types.is_integer(kind) or _is_text(rows, name)) and distinct(rows, name) >= 2


def _fits_time(rows: Rows, name: str) -> bool:
    kind = _type(rows, name)
    return _whole(rows, name) and (
        pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )


def _fits_id(rows: Rows, name: str) -> bool:
    return _whole(rows, name) and pa.types.is_integer(_type(rows, name)) and distinct(rows, name) == len(rows)


def _fits_weight(rows: Rows, name: str) -> bool:
    kind = _type(rows, name)
    return _whole(rows, name) and (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _fits_split(rows: Rows, name: str) -> bool:
    if not _is_text(rows, name) or distinct(rows, name) > 4:
        return False
    said = set(pc.unique(rows.table.column(name)).to_pylist()) - {None, ""}
    return {"train", "test"} <= said <= {"train", "validation", "test"}


FITS: dict[str, Callable[[Rows, str], bool]] = {
    "user": _fits_name, "item": _fits_name, "time": _fits_time, "text": _fits_text, "label": _fits_label,
    "weight": _fits_weight, "split": _fits_split, "id": _fits_id,
}  # fmt: skip


def _fitting(roles: dict[str, str]) -> list[Task]:
    """The tasks whose roles are all there: those that need most of them first, then by name."""
    return sorted((task for task in _drafted() if set(task.roles) <= set(roles)), key=lambda task: -len(task.roles))


def _drafted() -> list[Task]:
    return [task for task in (parts.get("tasks", name) for name in parts.names("tasks")) if task.draft is not None]


def _named(file: Path, folder: Path) -> str:
    """As the recipe names the file: from its own folder where the file lies inside."""
    inside = file.resolve().is_relative_to(folder.resolve())
    return str(file.resolve().relative_to(folder.resolve()) if inside else file.resolve())


def _settings(file: Path, path: str) -> dict[str, str]:
    """What a reader must be told: of a CSV, what stands between its cells."""
    if reader_for(path) != "csv" or path.lower().endswith(".tsv"):
        return {}
    check_text(file)
    with file.open(encoding="utf-8-sig") as opened:
        header = opened.readline()
    found = max(",;\t|", key=header.count)
    return {} if found == "," or found not in header else {"delimiter": found}


def _yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("\n...\n").strip()
    )


def _why(rows: Rows, column: str) -> str:
    kind = "text" if _is_text(rows, column) else str(_type(rows, column))
    return f"{kind}, {distinct(rows, column):,} different in {len(rows):,} rows"


def _rest(rows: Rows, used: dict[str, str]) -> Iterator[str]:
    left = [name for name in rows.names if name not in used.values()]
    if left:
        yield f"    # not used: {', '.join(left)}"
