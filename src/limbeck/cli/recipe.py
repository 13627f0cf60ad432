"""`limbeck check` and `limbeck run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limbeck.cli.say import Changes, Json, Out, Quiet, RecipeFile, figure, say_json, say_table, size, span, teller

if TYPE_CHECKING:
    from limbeck.progress import Teller
    from limbeck.recipe import Recipe
    from limbeck.report import Report


def opened(path: Path, changes: list[str] | None, telling: Teller | None = None) -> Recipe:
    """A recipe in which no mistake was found.

    Raises:
        RecipeError: every problem at once, with its line.
    """
    from limbeck.check import opened as look

    with (telling or teller(quiet=True)).bar(f"checking {path.name}, whose packs are fetched the first time"):
        return look(path, changes or ())


def folder_of(path: Path, out: Path | None) -> Path:
    """Where a recipe's run lies.

    Raises:
        UserError: there is a file.
    """
    from limbeck.atomic import check_folder

    folder = out or Path("runs") / path.stem
    check_folder(folder)
    return folder


def check(recipe: RecipeFile, changes: Changes = None, json: Json = False) -> None:
    """Find every problem of a recipe, before any work."""
    from dataclasses import asdict

    from limbeck.check import LOOKED
    from limbeck.errors import RecipeError

    try:
        opened(recipe, changes, teller(quiet=json))
    except RecipeError as wrong:
        if not json:
            raise
        say_json({"recipe": str(recipe), "problems": [asdict(mistake) for mistake in wrong.mistakes]})
        raise typer.Exit(wrong.exit_code) from None
    if json:
        say_json({"recipe": str(recipe), "problems": []})
    else:
        print(f"{recipe}: no problem found. Looked at: {', '.join(LOOKED)}.")


def run(
    recipe: RecipeFile,
    out: Out = None,
    changes: Changes = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be done, how long it takes, and do nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do all that a recipe says; finished steps are found."""
    tells, folder = teller(quiet=quiet or json), folder_of(recipe, out)
    if plan:
        _plan(_here(recipe, changes, tells), recipe.parent, folder, json=json)
        return
    read = opened(recipe, changes, tells)
    from limbeck.run import run as go

    found = go(read, base=recipe.parent, out=folder, teller=tells)
    if json:
        from dataclasses import asdict

        say_json({"out": str(folder), **asdict(found)})
    else:
        show(found, folder)


def show(found: Report, folder: Path) -> None:
    """A report's tables and verdict, and where everything lies."""
    from limbeck.page.fact import unsteady
    from limbeck.page.number import MISSING

    for protocol in found.protocols:
        heads = [protocol.name, "", protocol.headline, "sd", "parameters", "size", "p50 ms"]
        rows: list[list[Any]] = []
        for row in protocol.rows:
            metric = row.metrics[protocol.headline]
            p50 = row.latency_ms.p50 if row.latency_ms else None
            count = None if row.parameters is None else f"{row.parameters:,}"
            name = f"{row.name} (int8)" if row.precision == "int8" else row.name
            rows.append(
                [row.role, name, figure(metric.mean), figure(metric.sd) or MISSING, count, size(row.bytes), figure(p50)]
            )
        say_table(heads, rows)
        busy = unsteady(protocol)
        if busy:
            print(busy.say())
    print(found.verdict)
    print(f"report: {folder / 'report.html'}")
    for path in dict.fromkeys(artifact.path for artifact in found.artifacts):
        print(f"artifact: {folder / path}")


def _here(path: Path, changes: list[str] | None, tells: Teller) -> Recipe:
    """A recipe to plan: checked as `opened` does, but where that would fetch something."""
    from limbeck.plan import away
    from limbeck.recipe import read

    found, _ = read(path, changes or ())
    missing = away(found)
    if not missing:
        return opened(path, changes, tells)
    tells.say(f"not here yet: {', '.join(missing)}; the run fetches what it needs, and checks the recipe then")
    return found


def _plan(recipe: Recipe, base: Path, folder: Path, *, json: bool) -> None:
    from dataclasses import asdict

    from limbeck.errors import counted
    from limbeck.plan import plan

    steps = plan(recipe, base, folder)
    todo = [step for step in steps if not step.done]
    known = [step.seconds for step in todo if step.seconds is not None]
    total = sum(known) if len(known) == len(todo) else None
    disk = sum(step.bytes or 0 for step in todo)
    if json:
        said = {"out": str(folder), "steps": [asdict(step) for step in steps], "seconds": total, "bytes": disk}
        say_json({**said, "seconds_known": sum(known)})
        return
    rows = []
    for step in steps:
        cost = ["", ""] if step.done else [span(step.seconds), size(step.bytes)]
        rows.append([step.kind, step.name, "done" if step.done else "to do", *cost, step.note])
    say_table(["step", "", "", "time", "disk", ""], rows)
    more = "" if total is not None else f" and what is not known ({counted(len(todo) - len(known), 'step')})"
    ahead = f"about {span(sum(known))}{more}, {size(disk)} of disk" if known or not todo else "how long is not known"
    print(f"{len(todo)} of {counted(len(steps), 'step')} to do: {ahead}.")
