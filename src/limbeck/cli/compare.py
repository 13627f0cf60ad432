"""`limbeck compare`: several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.say import Json, say_json


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("compare.html"),
    json: Json = False,
) -> None:
    """Set runs side by side: a page, and Markdown."""
    from limbeck.atomic import replace
    from limbeck.page.compare import compare_markdown, compare_page
    from limbeck.report import Report

    reports = {name: Report.load(run) for name, run in named(runs).items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, compare_page(reports).encode())
    if json:
        said = [{"run": name, "task": r.task, "verdict": r.verdict} for name, r in reports.items()]
        say_json({"page": str(out), "runs": said})
    else:
        print(compare_markdown(reports))
        print(f"page: {out}")


def named(runs: list[Path]) -> dict[str, Path]:
    """The shortest names that tell the folders apart: their own, or as many folders above as it takes.

    >>> list(named([Path("a/x"), Path("b/x")]))
    ['a/x', 'b/x']
    """
    whole = [run.resolve().parts for run in dict.fromkeys(runs)]
    for count in range(1, max(map(len, whole), default=1) + 1):
        names = ["/".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(set(whole)):
            break
    return dict(zip(names, dict.fromkeys(runs), strict=True))
