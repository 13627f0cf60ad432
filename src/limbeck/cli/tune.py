"""`limbeck tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.recipe import opened, show
from limbeck.cli.say import Changes, Json, Quiet, RecipeFile, say_json, teller


def tune(
    recipe: RecipeFile,
    out: Annotated[Path | None, typer.Option(help="The search's folder.", show_default="runs/<recipe>-tune")] = None,
    changes: Changes = None,
    storage: Annotated[
        str | None,
        typer.Option(help="URL of another database, as Optuna reads it.", show_default="SQLite in the search's folder"),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for the best students within the recipe's budget."""
    tells = teller(quiet=quiet or json)
    read, folder = opened(recipe, changes, tells), out or Path("runs") / f"{recipe.stem}-tune"
    from limbeck.tune import tune as go

    found = go(read, base=recipe.parent, out=folder, teller=tells, storage=storage)
    if json:
        from dataclasses import asdict

        say_json({"out": str(folder), **asdict(found)})
    else:
        show(found, folder)
