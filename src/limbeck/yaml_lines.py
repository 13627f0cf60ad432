"""YAML as a recipe means it: every key is text, every place has a line, and a change is made by its dotted key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from limbeck.errors import Mistake, RecipeError, UserError

BOOLEAN = "tag:yaml.org,2002:bool"
Place = tuple[str | int, ...]


class Loader(yaml.SafeLoader):
    """YAML 1.1 without its traps: `no`, `off` and `yes` are words, as in YAML 1.2, and keys are always text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose plain keys are what was typed: a class called `1` or `no` keeps its name."""
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, words) for tag, words in resolvers if tag != BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(BOOLEAN, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def load(text: str, source: str) -> tuple[dict[str, Any], Lines]:
    """A mapping, and where its keys were typed.

    Raises:
        RecipeError: no YAML, or no mapping.
    """
    try:
        node = yaml.compose(text, Loader=Loader)
        said = yaml.load(text, Loader=Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as wrong:
        line = wrong.problem_mark.line + 1 if wrong.problem_mark else None
        raise RecipeError(source, [Mistake(f"not YAML: {wrong.problem}", line)]) from None
    except yaml.YAMLError as wrong:
        raise RecipeError(source, [Mistake(f"not YAML: {wrong}")]) from None
    if not isinstance(said, dict):
        what = "empty" if said is None else "a list" if isinstance(said, list) else f"only {text.strip()[:40]!r}"
        raise RecipeError(source, [Mistake(f"a recipe is a mapping of keys; this is {what}")])
    return said, Lines(node)


class Lines:
    """Where the user typed each key.

    Args:
        node: the composed YAML tree.
    """

    def __init__(self, node: yaml.Node | None) -> None:
        self.by_path: dict[Place, int] = {}
        self.doubled: list[Mistake] = []
        self.circular = False
        self._walked: set[int] = set()
        if node is not None:
            self._walk(node, (), frozenset())

    def _walk(self, node: yaml.Node, path: Place, above: frozenset[int]) -> None:
        self.by_path.setdefault(path, node.start_mark.line + 1)
        if id(node) in above:
            self.circular = True
            self.doubled.append(Mistake("the alias stands for what it stands in", self.of(path), dotted(path)))
        if id(node) in self._walked:
            return  # an alias of what is known; aliases of aliases would take for ever
        self._walked.add(id(node))
        above = above | {id(node)}
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, key.value)
                if here in self.by_path:
                    self.doubled.append(Mistake("the key stands twice", key.start_mark.line + 1, dotted(here)))
                self.by_path[here] = key.start_mark.line + 1
                self._walk(value, here, above)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._walk(value, (*path, i), above)

    def of(self, path: Sequence[str | int]) -> int | None:
        """The line of a key, or of the nearest key above it."""
        path = tuple(path)
        while path and path not in self.by_path:
            path = path[:-1]
        return self.by_path.get(path)

    def also(self, typed: Place, meant: Place) -> None:
        """Lines of what stands at one place serve another as well: the key there was mistyped."""
        held = {path: line for path, line in self.by_path.items() if path[: len(typed)] == typed}
        self.by_path.update({(*meant, *path[len(typed) :]): line for path, line in held.items()})


def dotted(path: Sequence[str | int]) -> str:
    """`("students", 0, "width")` -> `students[0].width`.

    >>> dotted(("students", 0, "width"))
    'students[0].width'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def change(said: dict[str, Any], wanted: str) -> None:
    """Make one change, `key.in.dots=value` in YAML, in place.

    Raises:
        UserError: it is not of that form, or leads nowhere.
    """
    key, equals, text = wanted.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes key=value, found {wanted!r}")
    try:
        value = yaml.load(text, Loader=Loader)  # a SafeLoader
    except yaml.YAMLError:
        raise UserError(f"--set {key}: {text!r} is not YAML") from None
    place: Any = said
    *above, last = key.split(".")
    for step in above:
        if isinstance(place, dict):
            place = place.setdefault(step, {})
        elif isinstance(place, list) and step.isdigit() and int(step) < len(place):
            place = place[int(step)]
        else:
            raise UserError(f"--set {key}: the recipe has nothing at '{step}'")
    try:
        place[int(last) if isinstance(place, list) else last] = value
    except (TypeError, ValueError, IndexError):
        raise UserError(f"--set {key}: the recipe has nothing at '{last}'") from None
