"""Finds parts by name: the file of that name in its folder, or an entry point of another package."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from limbeck.complaint import all_said
from limbeck.errors import MissingExtra, UserError

FOLDERS = ("packs", "tasks", "models", "teachers", "data", "losses", "metrics", "encoders")
EXTRAS = {
    "torch": "train", "accelerate": "train", "transformers": "text", "sklearn": "train", "lightgbm": "tabular",
    "optuna": "tune", "rdata": "tabular", "art": "vision", "kornia": "vision", "keras": "keras",
}  # fmt: skip


@cache
def names(folder: str) -> tuple[str, ...]:
    """The names of all parts of one sort, own and plugged in, sorted.

    >>> "kl" in names("losses")
    True
    """
    package = importlib.import_module(f"limbeck.{folder}")
    own = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
    return tuple(sorted(own | set(_plugged(folder))))


@cache
def _plugged(folder: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"limbeck.{folder}")}


def get(folder: str, name: str) -> Any:
    """The object behind a name.

    A file `losses/listwise_kl.py` offers the class `ListwiseKl`; a task's file offers `TASK`, a
    pack's `PACK`, and a metric's file is itself the answer. A hyphen reads as an underscore. Entry
    points of the group `limbeck.<folder>` name the object directly.

    Raises:
        UserError: no such part; the message offers the nearest names.
        MissingExtra: the part needs packages that are not installed.
    """
    name = name.replace("-", "_")
    known = names(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise UserError(f"no {_singular(folder)} '{name}'; {hint}")
    try:
        if name in _plugged(folder):
            return _plugged(folder)[name].load()
        module = importlib.import_module(f"limbeck.{folder}.{name}")
    except ModuleNotFoundError as missing:
        extra = EXTRAS.get((missing.name or "").split(".")[0])
        if extra is None:
            raise
        raise MissingExtra(extra, f"{_singular(folder)} '{name}'") from missing
    if folder == "metrics":
        return module
    return getattr(module, {"tasks": "TASK", "packs": "PACK"}.get(folder, camel(name)))


def module(folder: str, name: str) -> Any:
    """The module of an own part, for what stands beside its main object."""
    get(folder, name)
    return importlib.import_module(f"limbeck.{folder}.{name}")


def make(folder: str, name: str, settings: dict[str, Any]) -> Any:
    """Build a part from a recipe's settings.

    Every part but tasks and metrics is a frozen dataclass (or a class with keyword arguments), so
    its settings are its fields.

    Raises:
        UserError: a setting it does not know, one it lacks, or an impossible value.
    """
    part = get(folder, name)
    allowed = settings_of(part)
    for key in settings:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows: {', '.join(allowed) or 'none'}"
            raise UserError(f"{_singular(folder)} '{name}' has no setting '{key}'; {hint}")
    lacking = [key for key, default in allowed.items() if default is inspect.Parameter.empty and key not in settings]
    if lacking:
        raise UserError(f"{_singular(folder)} '{name}' lacks the setting {', '.join(map(repr, lacking))}")
    return part(**validated(part, settings))


def settings_of(part: Any) -> dict[str, Any]:
    """Name -> default of every setting; `inspect.Parameter.empty` where it must be given."""
    if is_dataclass(part):
        return {f.name: _default(f) for f in fields(part) if f.init}
    named = inspect.signature(part).parameters.values()
    return {p.name: p.default for p in named if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def types_of(part: Any) -> dict[str, Any]:
    """Name -> annotated type of every setting."""
    return get_type_hints(part if is_dataclass(part) else part.__init__)


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else inspect.Parameter.empty


def validated(part: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, each brought to its annotated type.

    Raises:
        UserError: a value that is not of its type.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    hints = types_of(part)
    answer = {}
    for key, value in settings.items():
        hint = hints.get(key, Any)
        try:
            # A dataclass has a configuration of its own.
            config = None if is_dataclass(hint) else ConfigDict(arbitrary_types_allowed=True)
            adapter = TypeAdapter(hint, config=config)
            answer[key] = adapter.validate_python(value)
        except ValidationError as wrong:
            raise UserError(f"setting '{key}' is {value!r}: {all_said(wrong.errors())}") from None
    return answer


def camel(name: str) -> str:
    """`listwise_kl` -> `ListwiseKl`.

    >>> camel("listwise_kl")
    'ListwiseKl'
    """
    return "".join(word.capitalize() for word in name.split("_"))


def _singular(folder: str) -> str:
    return {"losses": "loss", "data": "row source"}.get(folder, folder.rstrip("s"))
