"""`limbeck store`: care of what teachers have answered."""

from __future__ import annotations

import json as jsons
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.say import Json, Quiet, say_json, say_table, size, teller

app = typer.Typer(help="Stores: what teachers have answered, kept on disk.")
Which = Annotated[Path | None, typer.Argument(help="A store's folder.", show_default="all stores of the cache")]
Runs = Annotated[Path, typer.Option(help="Where runs lie, whose artifacts are looked at.")]


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
    try:
        recipe = jsons.loads((folder / "origin.json").read_text(encoding="utf-8"))["recipe"]
        teacher = recipe["teacher"]
        return {"task": recipe["task"], "teacher": teacher["name"] or teacher["model"] or teacher["from"]}
    except (OSError, ValueError, KeyError):
        return {}


@app.command()
def verify(store: Which = None, json: Json = False) -> None:
    """Find every shard that is flipped, cut short, missing or swapped."""
    from limbeck.errors import StoreDamaged
    from limbeck.upkeep import verify as look

    found = {folder: look(folder) for folder in _folders(store)}
    damages = [damage for each in found.values() for damage in each]
    if json:
        told = [{"path": str(d.path), "reason": d.reason, "repair": d.repair, "shard": d.shard} for d in damages]
        say_json({"stores": [str(folder) for folder in found], "damages": told})
        if damages:
            raise typer.Exit(StoreDamaged.exit_code)
    elif damages:
        broken = " ".join(str(folder) for folder, each in found.items() if each)
        lines = "\n".join(f"  {damage}" for damage in damages)
        raise StoreDamaged(f"{len(damages)} damaged files; limbeck store repair mends them: {broken}\n{lines}")
    else:
        print(f"{len(found)} stores, nothing damaged")


@app.command()
def repair(store: Which = None, json: Json = False, quiet: Quiet = False) -> None:
    """Label again what is damaged or missing, by the recipe the store keeps; nothing else is asked."""
    from limbeck.errors import StoreDamaged
    from limbeck.upkeep import discard, verify

    mended = []
    for folder in _folders(store):
        damages = verify(folder)
        if not damages:
            continue
        shards = discard(folder, damages)
        if shards or any(damage.repair == "finish" for damage in damages):
            from limbeck.run import relabel

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
        print(f"{one['store']}: whole again ({one['damages']} damaged files)")


@app.command()
def forget(
    user: Annotated[str, typer.Option(help="The user, as the rows name them.", show_default=False)],
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Take a person's rows out of every store for good, and name the artifacts that had learnt from them."""
    import numpy as np

    from limbeck import ledger
    from limbeck.chunk import persons
    from limbeck.shard import Settings
    from limbeck.upkeep import forget as take_out
    from limbeck.upkeep import list_stores

    changed, kept, hit = [], [], set()
    # First the list that every later run reads: what happens next may be interrupted.
    known = ledger.read_forgotten(root()) if ledger.forgets(root()) else persons([])
    ledger.write_forgotten(root(), np.union1d(known, persons([user])))
    for info in list_stores(root()):
        if not isinstance(info.settings, Settings) or not info.settings.people:
            kept.append(str(info.folder))
            continue
        found = take_out(info.folder, user)
        if found.rows:
            changed.append({"store": str(info.folder), "rows": found.rows, "shards": found.shards})
            hit.add(info.id)
    learnt = sorted(str(folder) for folder in learnt_from(hit, runs))
    if json:
        say_json({"user": user, "stores": changed, "without_people": kept, "artifacts": learnt})
        return
    print(f"{sum(int(str(c['rows'])) for c in changed)} rows of user {user} taken out of {len(changed)} stores")
    if kept:
        print(f"{len(kept)} stores do not say whose their rows are: {', '.join(kept)}")
    for folder in learnt:
        print(f"had learnt from them: {folder} (run its recipe again, and it will not have)")
    print("Later runs leave this person out. Yours to delete: rows in your own files, the cache's folders 'rows',")
    print("'teachers' and 'baselines', and the folders of earlier runs, whose reports show raw rows.")


def learnt_from(stores: Iterable[str], runs: Path) -> list[Path]:
    """The artifacts of runs under a folder whose student learnt from one of these stores."""
    wanted = set(stores)
    files = sorted(runs.rglob("artifact/*/fingerprints.json")) if runs.is_dir() else []
    return [file.parent for file in files if jsons.loads(file.read_text(encoding="utf-8")).get("store") in wanted]


@app.command()
def clean(json: Json = False) -> None:
    """Remove what killed runs left half-written in stores."""
    from limbeck.upkeep import clean as sweep

    done = sweep(root())
    if json:
        say_json({"files": done.files, "bytes": done.bytes})
    else:
        print(f"{done.files} leftover files removed, {size(done.bytes)}")
