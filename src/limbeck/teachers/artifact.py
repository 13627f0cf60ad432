"""A student of an earlier run as the next teacher: its artifact, as a server would load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limbeck.brought import need_columns
from limbeck.errors import UserError
from limbeck.table import find
from limbeck.task import Problem
from limbeck.types import Predictor


@dataclass(frozen=True)
class Artifact:
    """The folder `artifact/<student>` of a run.

    Args:
        path: the folder.
        precision: which of its ONNX files answers.
    """

    path: str
    precision: Literal["fp32", "int8"] = "fp32"

    def find(self, base: Path) -> Path:
        """The folder.

        Raises:
            UserError: it leaves the recipe's folder, or holds no artifact.
        """
        folder = find(self.path, base)
        if not (folder / "manifest.json").is_file():
            raise UserError(f"there is no artifact in '{self.path}'; name the folder artifact/<student> of a run")
        return folder

    def open(self, problem: Problem, base: Path) -> Predictor:
        """Verify and load the artifact.

        Raises:
            UserError: no such artifact or precision, other columns, or another axis than the task's.
        """
        from limbeck import artifact

        opened = artifact.Artifact.open(self.find(base))
        need_columns(problem, opened.contract.reads, f"artifact '{self.path}'")
        name = problem.axis.name
        if (opened.axis.name, opened.axis.values) != (name, problem.axis.values):
            raise UserError(
                f"artifact '{self.path}' answers on {len(opened.axis)} {opened.axis.name}s, the task has "
                f"{len(problem.axis)} {name}s, and they are not the same in the same order; "
                "teach it on the rows and the split of this recipe"
            )
        return opened.predictor(self.precision)
