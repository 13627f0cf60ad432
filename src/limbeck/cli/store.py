"""`limbeck store`: care of what teachers have answered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.say import Json, Quiet, say_json, say_table, size, teller

app = typer.Typer(help="Stores: what teachers have answered, kept on disk.")
Which = Annotated[Path | None, typer.Argument(help="A store's folder.", show_default="all stores of the cache")]
Runs = Annotated[Path, typer.Option(help="Where runs lie that this cache does not know of.")]


def root() -> Path:
    """The folder of stores."""
    from limbeck.cache import cache_folder

    return cache_folder() / "stores"


def _folders(store: Path | None) -> list[Path]:
    from limbeck.upkeep import list_stores

    return [store] if store is not None else [info.folder for info in list_stores(root())]


@app.command("list")
def list_all(json: Json = False) -> None:
    """Every store: whose answers, how many rows, how large."""
    from limbeck.upkeep import list_stores

    found = []
    for info in list_stores(root()):
        state = info.problem or ("complete" if info.complete else "unfinished")
        told = {"id": info.id, "folder": str(info.folder), "rows": info.rows, "bytes": info.bytes}
        found.append(
            {**told, "complete": info.complete, "problem": info.problem, "state": state, **origin_of(info.folder)}
        )
    if json:
        say_json(found)
        return
    heads = ["store", "task", "teacher", "rows", "size", ""]
    rows = [[s["id"], s.get("task"), s.get("teacher"), f"{s['rows']:,}", size(s["bytes"]), s["state"]] for s in found]
    say_table(heads, rows)


def origin_of(folder: Path) -> dict[str, Any]:
    """Task and teacher of a store, as far as it says where it comes from."""
    from limbeck.ledger import read_origins

    try:
        recipe = read_origins(folder)[-1]["recipe"]
        teacher = recipe["teacher"]
        return {"task": recipe["task"], "teacher": teacher["name"] or teacher["model"] or teacher["from"]}
    except (IndexError, KeyError):
        return {}


@app.command()
def verify(store: Which = None, json: Json = False) -> None:
    """Find every shard that is flipped, cut short, missing or swapped."""
    from limbeck.errors import StoreDamaged, counted
    from limbeck.upkeep import verify as look

    folders = _folders(store)
    with teller(quiet=json).bar("verifying", len(folders), "stores") as advance:
        found = {}
        for folder in folders:
            found[folder] = look(folder)
            advance(1)
    damages = [damage for each in found.values() for damage in each]
    if json:
        told = [{"path": str(d.path), "reason": d.reason, "repair": d.repair, "shard": d.shard} for d in damages]
        say_json({"stores": [str(folder) for folder in found], "damages": told})
        if damages:
            raise typer.Exit(StoreDamaged.exit_code)
    elif damages:
        broken = " ".join(str(folder) for folder, each in found.items() if each)
        lines = "\n".join(f"  {damage}" for damage in damages)
        raise StoreDamaged(
            f"{counted(len(damages), 'damaged file')}; mended by: limbeck store repair {broken}\n{lines}"
        )
    else:
        print(f"{counted(len(found), 'store')}, nothing damaged")


@app.command()
def repair(store: Which = None, json: Json = False, quiet: Quiet = False) -> None:
    """Label again what is damaged or missing, by the recipe the store keeps; nothing else is asked."""
    from limbeck.errors import StoreDamaged, counted
    from limbeck.run import recipes_of, relabel
    from limbeck.upkeep import discard, verify

    mended: list[dict[str, Any]] = []
    for folder in _folders(store):
        damages = verify(folder)
        if not damages:
            continue
        if any(damage.repair in ("relabel", "finish") for damage in damages):
            recipes_of(folder)  # before anything is taken out: without a recipe it could not be brought back
        shards = discard(folder, damages)
        if shards or any(damage.repair == "finish" for damage in damages):
            relabel(folder, teller(quiet=quiet or json))
        left = verify(folder)
        if left:
            raise StoreDamaged("\n".join(["still damaged after labelling again:", *(f"  {damage}" for damage in left)]))
        mended.append({"store": str(folder), "damages": len(damages), "shards": shards})
    if json:
        say_json(mended)
    elif not mended:
        print("nothing to repair")
    for one in [] if json else mended:
        print(f"{one['store']}: whole again ({counted(one['damages'], 'damaged file')})")


@app.command()
def forget(
    user: Annotated[str, typer.Option(help="The user, as the rows name them.", show_default=False)],
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Take a person's rows out of every store for good, and name what else learnt from them or shows them."""
    from limbeck.errors import counted
    from limbeck.forgetting import forget as take_out

    done = take_out(user, runs, teller(quiet=json))
    if json:
        changed = [{"store": str(f), "rows": d.rows, "shards": d.shards} for f, d in done.stores.items()]
        names = ("without_people", "artifacts", "shown", "steps", "rows", "again")
        told = {name: [str(place) for place in getattr(done, name)] for name in names}
        say_json({"user": user, "stores": changed, **told})
        return
    rows = counted(sum(d.rows for d in done.stores.values()), f"row of user {user}")
    print(f"{rows} taken out of {counted(len(done.stores), 'store')}")
    if done.without_people:
        unsaid = counted(len(done.without_people), "store")
        print(f"{unsaid} without word of whose the rows are: {_listed(done.without_people)}")
    for what, places in (
        ("artifacts whose students had learnt from them", done.artifacts),
        ("pages that show rows of theirs", done.shown),
        (
            "models that had learnt from them, and judgements, which a run makes again without them: delete these",
            done.steps,
        ),
        ("copies of your files that name them; take the rows out of your files, and delete these", done.rows),
    ):
        if places:
            print("\n".join([f"{what}:", *(f"  {place}" for place in places)]))
    for folder in done.again:
        print(f"to make artifacts and pages anew without them: limbeck export {folder}")
    if not done.found:
        where = f", as in {'; '.join(done.named)}" if done.named else ""
        print(f"Nothing here is of '{user}'. People go by what stands in the column with the role user{where}.")
    print("Later runs leave this person out. Rows in your own files are yours to delete.")


def _listed(places: Iterable[Path]) -> str:
    return ", ".join(str(place) for place in places)


@app.command()
def clean(json: Json = False) -> None:
    """Remove what killed runs left half-written in stores, the cache and the folders of its runs."""
    from limbeck.errors import counted
    from limbeck.forgetting import known_runs
    from limbeck.sweep import sweep
    from limbeck.upkeep import clean as clean_stores

    each = (clean_stores(root()), sweep(known_runs()))
    files, weight = sum(done.files for done in each), sum(done.bytes for done in each)
    if json:
        say_json({"files": files, "bytes": weight})
    else:
        print(f"{counted(files, 'leftover file')} removed, {size(weight)}")
