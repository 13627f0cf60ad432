"""The steps of a run by themselves: `label`, `distill`, `evaluate`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from limbeck.cli.recipe import folder_of, opened
from limbeck.cli.say import Changes, Json, Out, Quiet, RecipeFile, figure, say_json, say_table, size, teller


def label(
    recipe: RecipeFile, out: Out = None, changes: Changes = None, json: Json = False, quiet: Quiet = False
) -> None:
    """Have the teacher answer every row; print the store."""
    tells = teller(quiet=quiet or json)
    read = opened(recipe, changes, tells)
    from limbeck.run import labelled

    found = labelled(read, base=recipe.parent, out=folder_of(recipe, out), teller=tells)
    if json:
        say_json([{"store": str(split.store.folder), "rows": len(split.store)} for split in found])
    for split in [] if json else found:
        print(split.store.folder)


def distill(
    recipe: RecipeFile, out: Out = None, changes: Changes = None, json: Json = False, quiet: Quiet = False
) -> None:
    """Train the students and their twins; print them."""
    tells = teller(quiet=quiet or json)
    read = opened(recipe, changes, tells)
    from limbeck.run import distilled

    splits = distilled(read, base=recipe.parent, out=folder_of(recipe, out), teller=tells)
    found: list[dict[str, Any]] = [
        {"role": role, "name": name, "folder": str(one.folder), "validation": one.validation, "seconds": one.seconds}
        for split in splits
        for role, models in (("student", split.students), ("scratch", split.twins))
        for name, lived in models.items()
        for one in lived
    ]
    if json:
        say_json(found)
    else:
        say_table(
            ["", "", "validation", "seconds", ""],
            [
                [one["role"], one["name"], figure(one["validation"]), f"{one['seconds']:.0f}", one["folder"]]
                for one in found
            ],
        )


def evaluate(
    recipe: RecipeFile,
    predictor: Annotated[
        list[Path],
        typer.Option(help="An artifact, a model's folder or a store; may stand several times.", show_default=False),
    ],
    protocol: Annotated[str | None, typer.Option(help="Of the recipe.", show_default="the first")] = None,
    split: Annotated[int | None, typer.Option(help="Its seed.", show_default="the first of the protocol")] = None,
    part: Annotated[Literal["test", "validation", "train"], typer.Option(help="Rows to judge on.")] = "test",
    changes: Changes = None,
    json: Json = False,
) -> None:
    """Judge predictors on a recipe's rows."""
    tells = teller(quiet=json)
    read = opened(recipe, changes, tells)
    from limbeck.bind import bind, problem_of, protocol_of
    from limbeck.errors import counted
    from limbeck.verbs.evaluate import evaluate, open_predictor

    with tells.bar("opening rows"):
        bound = bind(read, recipe.parent)
        chosen = protocol_of(read, protocol)
        problem = problem_of(bound, chosen, chosen.splits[0] if split is None else split)
    rows = getattr(problem, part)
    predictors = [(path, open_predictor(path, problem, bound.source.rows.source)) for path in predictor]
    found = [(path, evaluate(one, rows, bound.task, problem, tells)) for path, one in predictors]
    if json:
        told = [{"predictor": str(path), "metrics": j.metrics, "slices": j.slices} for path, j in found]
        say_json({"task": bound.task.name, "protocol": chosen.name, "part": part, "rows": len(rows), "judged": told})
        return
    table = [[path, *(figure(judgement.metrics[name]) for name in bound.task.metrics)] for path, judgement in found]
    say_table([f"{chosen.name}, {part}: {counted(len(rows), 'row')}", *bound.task.metrics], table)


def export(
    recipe: Annotated[Path, typer.Argument(help="The recipe, or the folder of its run.", show_default=False)],
    out: Out = None,
    changes: Changes = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export the students of a run or a search; print their artifacts."""
    from limbeck.run import flow_of, origin_of, run

    tells = teller(quiet=quiet or json)
    if (recipe / "run.json").is_file():
        read, base, folder = *origin_of(recipe, changes or ()), recipe
    else:
        read, base, folder = opened(recipe, changes, tells), recipe.parent, folder_of(recipe, out)
    if flow_of(folder) == "tune":
        from limbeck.tune import tune

        found = tune(read, base=base, out=folder, teller=tells)
    else:
        found = run(read, base=base, out=folder, teller=tells)
    if json:
        say_json(
            [
                {"student": a.student, "path": str(folder / a.path), "precision": a.precision, "parity": a.parity}
                for a in found.artifacts
            ]
        )
        return
    told = [
        [a.student, a.precision, size(a.parity.get("bytes")), a.parity.get("refused"), folder / a.path]
        for a in found.artifacts
    ]
    say_table(["student", "", "size", "refused", ""], told)
