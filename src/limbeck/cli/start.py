"""`limbeck init`: a first recipe for rows of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.say import Encoding, Json, say_json


def init(
    file: Annotated[
        Path,
        typer.Argument(
            help="A CSV, Parquet, JSONL, Arrow or .inter file, or a folder of pictures.", show_default=False
        ),
    ],
    task: Annotated[str | None, typer.Option(help="The question.", show_default="as the columns suggest")] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="What a column is, where a guess fails: user=buyer. Repeat for more."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The recipe.", show_default="recipe.yaml beside the file")] = None,
    encoding: Encoding = "utf-8",
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    json: Json = False,
) -> None:
    """Write a commented first recipe for a file of rows."""
    from limbeck.atomic import replace
    from limbeck.errors import UserError
    from limbeck.scaffold import scaffold

    target = out or file.parent / "recipe.yaml"
    if target.exists() and not force:
        raise UserError(f"{target} is there already; give another --out, or --force to write over it")
    made = scaffold(file, target.parent, task, encoding, given=_given(role or []))
    replace(target, made.text.encode())
    if json:
        say_json({"recipe": str(target), "task": made.task, "roles": made.roles})
        return
    print(f"{target}: task {made.task}; {', '.join(f'{role} = {column}' for role, column in made.roles.items())}")
    print(f"Read its comments, then: limbeck check {target}; limbeck run {target}")


def _given(said: list[str]) -> dict[str, str]:
    """`text=review` -> what it says."""
    from limbeck.errors import UserError

    given: dict[str, str] = {}
    for one in said:
        role, equals, column = one.partition("=")
        if not (role and equals and column):
            raise UserError(f"--role takes NAME=COLUMN, such as text=review; found {one!r}")
        if role in given:
            raise UserError(f"--role {role} is given twice: {given[role]} and {column}")
        given[role] = column
    return given
