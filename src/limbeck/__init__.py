"""Turns large models into small ones a shop can afford to run, and proves what was kept.

Importing this loads no torch; what stands here is fetched when it is first asked for:

    import limbeck
    limbeck.distill(student, loader, teacher=module_or_store, objective=...)
"""

from __future__ import annotations

import sys
from types import ModuleType

__version__ = "0.1.0"

TYPE_CHECKING = False  # that of `typing` would cost most of the time this import takes
if TYPE_CHECKING:
    from typing import Any

    from limbeck import losses as losses
    from limbeck import metrics as metrics
    from limbeck import models as models
    from limbeck import tasks as tasks
    from limbeck import teachers as teachers
    from limbeck.artifact import Artifact as Artifact
    from limbeck.audit import audit as audit
    from limbeck.check import check as check
    from limbeck.errors import LimbeckError as LimbeckError
    from limbeck.knowledge import Knowledge as Knowledge
    from limbeck.model import Model as Model
    from limbeck.objective import Objective as Objective
    from limbeck.page.compare import compare_page as compare
    from limbeck.recipe import Training as Training
    from limbeck.recipe import read as read_recipe
    from limbeck.report import Report as Report
    from limbeck.run import run as run
    from limbeck.store import Store as Store
    from limbeck.term import Term as Term
    from limbeck.tune import tune as tune
    from limbeck.types import Axis as Axis
    from limbeck.types import Batch as Batch
    from limbeck.types import Rows as Rows
    from limbeck.types import Signals as Signals
    from limbeck.verbs.distill import Watch as Watch
    from limbeck.verbs.distill import distill as distill
    from limbeck.verbs.evaluate import evaluate as evaluate
    from limbeck.verbs.export import export as export
    from limbeck.verbs.label import label as label
    from limbeck.verbs.predict import predict as predict

_PLACES = {
    "Artifact": "artifact",
    "Axis": "types",
    "Batch": "types",
    "Knowledge": "knowledge",
    "LimbeckError": "errors",
    "Model": "model",
    "Objective": "objective",
    "Report": "report",
    "Rows": "types",
    "Signals": "types",
    "Store": "store",
    "Term": "term",
    "Training": "recipe",
    "Watch": "verbs.distill",
    "audit": "audit",
    "check": "check",
    "compare": "page.compare:compare_page",
    "distill": "verbs.distill",
    "evaluate": "verbs.evaluate",
    "export": "verbs.export",
    "label": "verbs.label",
    "predict": "verbs.predict",
    "read_recipe": "recipe:read",
    "run": "run",
    "tune": "tune",
}
"""Name -> module, and after a colon the name there where it differs."""

_FOLDERS = ("losses", "metrics", "models", "tasks", "teachers")

__all__ = [
    "Artifact",
    "Axis",
    "Batch",
    "Knowledge",
    "LimbeckError",
    "Model",
    "Objective",
    "Report",
    "Rows",
    "Signals",
    "Store",
    "Term",
    "Training",
    "Watch",
    "__version__",
    "audit",
    "check",
    "compare",
    "distill",
    "evaluate",
    "export",
    "label",
    "losses",
    "metrics",
    "models",
    "predict",
    "read_recipe",
    "run",
    "tasks",
    "teachers",
    "tune",
]  # fmt: skip


class _Face(ModuleType):
    """The package, of which `run` and `check` are functions although modules of these names lie in it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    import importlib

    if name in _FOLDERS:
        return importlib.import_module(f"limbeck.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'limbeck' has no attribute '{name}'")
    place, _, there = _PLACES[name].partition(":")
    try:
        module = importlib.import_module(f"limbeck.{place}")
    except ModuleNotFoundError as missing:
        from limbeck.errors import MissingExtra
        from limbeck.parts import EXTRAS

        extra = EXTRAS.get((missing.name or "").split(".")[0])
        if extra is None:
            raise
        raise MissingExtra(extra, f"limbeck.{name}") from missing
    found = getattr(module, there or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Face
