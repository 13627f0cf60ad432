"""`limbeck predict`: a file of rows to a file of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.say import Encoding, Json, say_json


def predict(
    artifact: Annotated[
        Path, typer.Argument(help="Its folder, or that of a run with one artifact.", show_default=False)
    ],
    rows: Annotated[Path, typer.Argument(help="A CSV, JSONL or Parquet file.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="A JSONL or Parquet file.", show_default="standard output")] = None,
    top: Annotated[int, typer.Option(help="Answers a row, where the task gives several.")] = 10,
    precision: Annotated[
        Literal["fp32", "int8"] | None, typer.Option(help="Which file.", show_default="as it recommends")
    ] = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Answer every row of a file, without torch."""
    import sys
    from dataclasses import asdict

    from limbeck.artifact import Artifact
    from limbeck.errors import counted
    from limbeck.verbs.predict import Predict, predict

    settings = Predict(top=top, precision=precision, encoding=encoding)
    done = predict(Artifact.open(artifact_in(artifact)), rows, out, settings=settings)
    if done.lacking and not json:
        columns = ", ".join(map(repr, done.lacking))
        print(f"{rows} has no {columns}: answers may name what these users already have", file=sys.stderr)
    for unknown in () if json else done.unknown:
        print(f"{rows}: {unknown}", file=sys.stderr)
    if out is None:
        return  # the answers themselves stand on standard output
    if json:
        say_json({**asdict(done), "out": str(out), "rate": done.rate})
    else:
        print(
            f"{counted(done.rows, 'row')} answered in {done.seconds:.1f} s ({done.rate:,.0f} a second): {out}",
            file=sys.stderr,
        )


def artifact_in(folder: Path) -> Path:
    """The artifact that a folder is, or the only one of a run.

    Raises:
        UserError: a run with several.
    """
    from limbeck.errors import UserError

    found = sorted(path.parent for path in folder.glob("artifact/*/contract.json"))
    if (folder / "contract.json").exists() or not found:
        return folder
    if len(found) > 1:
        raise UserError(f"{folder} holds {len(found)} artifacts; name one: {', '.join(map(str, found))}")
    return found[0]
