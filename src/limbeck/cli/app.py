"""All commands under one roof. Each imports what it needs when it is called, so that help comes at once."""

from __future__ import annotations

from typing import Annotated

import typer

from limbeck.cli import answer, audit, compare, data, parts, recipe, start, store, tune, way

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turns large models into small ones a shop can afford to run, and proves what was kept.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("limbeck"))
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (
    start.init, recipe.check, recipe.run, tune.tune, way.label, way.distill, way.evaluate, way.export,
    answer.predict, audit.audit, compare.compare,
):  # fmt: skip
    app.command()(command)
app.command(name="list")(parts.list_parts)
app.add_typer(data.app, name="data")
app.add_typer(store.app, name="store")
