"""`limbeck data`: real rows and weights that package indexes carry."""

from __future__ import annotations

from typing import Annotated

import typer

from limbeck.cli.say import Json, say_json, say_table, teller

app = typer.Typer(help="Packs: real rows and weights that package indexes carry.")


@app.command("list")
def list_all(json: Json = False) -> None:
    """Every pack, and whether it is in the cache."""
    from limbeck.fetch import list_packs

    packs = list_packs()
    if json:
        say_json(
            [
                {"name": p.name, "here": p.here, "megabytes": p.megabytes, "licence": p.licence, "note": p.note}
                for p in packs
            ]
        )
        return
    rows = [[p.name, "here" if p.here else f"{p.megabytes:g} MB", p.licence, p.note] for p in packs]
    say_table(["pack", "", "licence", ""], rows)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="As in `limbeck data list`.", show_default=False)], json: Json = False
) -> None:
    """Fetch a pack, and print its folder."""
    from limbeck.fetch import find_pack, get_pack

    with teller(quiet=json).bar(f"fetching {name}"):
        folder = get_pack(name)
    if json:
        pack = find_pack(name)
        say_json({"name": pack.name, "folder": str(folder), "licence": pack.licence})
    else:
        print(folder)
