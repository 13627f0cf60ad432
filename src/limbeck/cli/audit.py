"""`limbeck audit`: what a finished run's predictors stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.say import Json, Quiet, figure, say_json, say_table, teller


def audit(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)],
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Attack and spoil test pictures: FGSM, PGD, an ensemble, corruptions.")
    ] = False,
    rows: Annotated[int, typer.Option(help="Test rows at most, drawn at random.")] = 500,
    radius: Annotated[
        list[float] | None,
        typer.Option(help="How far a pixel may be moved, of 1; repeat for more.", show_default="2/255, 4/255, 8/255"),
    ] = None,
    queries: Annotated[int, typer.Option(help="Of the ensemble's Square Attack; 0 leaves it out.")] = 500,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Try teacher, student and twin harder than test rows do, and put it in the report."""
    from limbeck.errors import UserError

    if not robustness:
        raise UserError("say what to audit: --robustness (attacks and corruptions of pictures)")
    from limbeck.audit import audit as go
    from limbeck.robustness import radius_of
    from limbeck.verbs.audit import Audit

    radii = tuple(sorted(set(radius))) if radius else Audit().radii
    settings = Audit(rows=rows, queries=queries, radii=radii)
    found = go(run, settings=settings, teller=teller(quiet=quiet or json)).robustness
    assert found is not None, "an audit ends in one"
    if json:
        from dataclasses import asdict

        say_json({"out": str(run), **asdict(found)})
        return
    heads = [f"{found.protocol}, {found.rows} of {found.test_rows} test rows", "", "clean"]
    heads += [f"{attack} {radius_of(level)}" for attack in settings.attacks for level in found.radii]
    table = [
        [one.role, one.name, figure(one.clean), *(figure(v) for a in settings.attacks for v in one.attacks.get(a, ()))]
        for one in found.predictors
    ]
    say_table(heads, table)
    kinds = list(found.predictors[0].corruptions)
    heads = ["", "", *(f"{kind} {severity}" for kind in kinds for severity in found.severities)]
    spoilt = [
        [one.role, one.name, *(figure(v) for kind in kinds for v in one.corruptions[kind])] for one in found.predictors
    ]
    say_table(heads, spoilt)
    print(f"report: {run / 'report.html'}")
