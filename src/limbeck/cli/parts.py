"""`limbeck list`: the parts a recipe can name."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.say import Json, say_json, say_table


def list_parts(
    folder: Annotated[
        str | None, typer.Argument(help="Only of this sort: losses, models, ...", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """The parts a recipe can name, own and plugged in."""
    from limbeck import parts
    from limbeck.errors import UserError

    if folder is not None and folder not in parts.FOLDERS:
        raise UserError(f"no sort of part is called '{folder}'; there are: {', '.join(parts.FOLDERS)}")
    found = [
        {"sort": sort, "name": name, "about": about(sort, name)}
        for sort in ([folder] if folder else parts.FOLDERS)
        for name in parts.names(sort)
    ]
    if json:
        say_json(found)
    else:
        say_table(["sort", "name", ""], [[one["sort"], one["name"], one["about"]] for one in found])


def about(sort: str, name: str) -> str:
    """The first line of a part's docstring. Own parts are read, not imported: some need torch."""
    import limbeck

    file = Path(limbeck.__path__[0], sort, f"{name}.py")
    if file.is_file():
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    else:
        from limbeck import parts

        said = parts.get(sort, name).__doc__
    return (said or "").partition("\n")[0]
