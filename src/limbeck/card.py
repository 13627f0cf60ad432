"""What a recipe says of itself to people: as text, and on the cards of the artifacts it made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from limbeck.bind import Bound
from limbeck.recipe import Loss, Recipe
from limbeck.report import Report
from limbeck.types import Axis
from limbeck.verbs.export import About
from limbeck.weight import Schedule, Weight


def about(bound: Bound) -> About:
    """What the artifacts say of where they come from."""
    recipe, facts = bound.recipe, bound.source.facts
    name = recipe.data.pack or Path(str(recipe.data.path)).name
    data = {"name": name, "description": recipe.description, **{k: v for k, v in facts.items() if k != "file"}}
    own = [f"{student.title}: {_objective(student.objective)}" for student in recipe.students if student.objective]
    card = {
        "data": f"{name}. {recipe.description}",
        "licence": str(facts.get("licence", "of the data: as its owner says")),
        "teacher": recipe.teacher.title,
        "objective": "; ".join([_objective(recipe.objective), *own]),
        "intended use": f"{recipe.task} on rows like those it was trained on.",
        "limits": "Judged on the test rows of the report only; watch it where rows drift from those.",
    }
    return About(
        task=recipe.task,
        axis=Axis("", ()),
        columns=(),
        report=Report(task=recipe.task, data=data),
        recipe=_yaml(_nameless(recipe.model_dump(mode="json", by_alias=True))),
        fingerprints={
            "rows": bound.source.rows.source,
            "source": bound.source.rows.fingerprint,
            "recipe": recipe.fingerprint,
        },
        card=card,
    )


def _nameless(value: Any) -> Any:
    """The same without the folders of this machine: of an absolute path only the name is left."""
    if isinstance(value, dict):
        return {key: _nameless(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_nameless(inner) for inner in value]
    if isinstance(value, str) and Path(value).expanduser().is_absolute():
        return Path(value).name
    return value


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML, all defaults written out."""
    return _yaml(recipe.model_dump(mode="json", by_alias=True))


def _objective(losses: Sequence[Loss]) -> str:
    return ", ".join(f"{loss.loss} (weight {_weight(loss.weight)}{_whose(loss)})" for loss in losses)


def _whose(loss: Loss) -> str:
    rows = "" if loss.sample_weight is None else f", rows by {loss.sample_weight.by}"
    return rows if loss.source == "teacher" else f", from {loss.source}{rows}"


def _weight(weight: Weight) -> str:
    if isinstance(weight, Schedule):
        return f"{weight.start:g} to {weight.end:g}, {weight.schedule}"
    return weight if isinstance(weight, str) else f"{weight:g}"


def _yaml(said: object) -> str:
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
