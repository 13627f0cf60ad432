"""Mistakes of a recipe as they are gathered, each once and in its place."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from limbeck import parts
from limbeck.complaint import complaint
from limbeck.errors import LimbeckError, Mistake
from limbeck.form import untold
from limbeck.yaml_lines import Lines, Place, dotted

Answer = TypeVar("Answer")


@dataclass
class Found:
    """Mistakes gathered so far.

    Args:
        lines: where the user typed what.
        mistakes: those of its form to begin with.
        untold: places whose form is wrong: what is found there is no mistake of the user's.
    """

    lines: Lines
    mistakes: list[Mistake] = field(default_factory=list)
    untold: set[Place] = field(default_factory=set)

    def add(self, message: str, *place: str | int) -> None:
        """One more, at a place of the recipe."""
        if not untold(self.untold, place):
            self.mistakes.append(Mistake(message, self.lines.of(place), dotted(place)))

    def tried(self, place: Place, attempt: Callable[[], Answer]) -> Answer | None:
        """What an attempt answers; none, and a mistake, where it raises one of the user's."""
        try:
            return attempt()
        except LimbeckError as wrong:
            self.add(str(wrong), *place)
            return None

    def unknown(self, what: str, name: str, known: Collection[str], *place: str | int) -> None:
        """A name that nobody knows."""
        near = nearest(name, known)
        hint = f"did you mean '{near}'?" if near else f"there are: {', '.join(known) or 'none'}"
        self.add(f"{what} '{name}'; {hint}", *place)

    def refused(self, wrong: ValidationError, place: Place, known: Collection[str] = ()) -> None:
        """What a validator says of a place, whose keys are those that are known."""
        for error in wrong.errors():
            where = (*place, *error["loc"])
            if error["type"] == "extra_forbidden":
                self.unknown("unknown key", str(where[-1]), known, *where)
            else:
                self.add(complaint(error), *where)

    def part(self, sort: str, name: str, settings: Mapping[str, Any], place: Place, of: Place) -> Any:
        """The part, made, or none; every setting that is unknown, missing or impossible becomes a mistake.

        Args:
            sort: the part's folder.
            name: of the part.
            settings: as the recipe has them.
            place: where they stand.
            of: where the part's name stands.
        """
        part = self.tried(of, lambda: parts.get(sort, name))
        if part is None:
            return None
        before, allowed = len(self.mistakes), parts.settings_of(part)
        for key, value in settings.items():
            if key not in allowed:
                self.unknown(f"'{name}' has no setting", key, list(allowed), *place, key)
            else:
                self.tried((*place, key), partial(parts.validated, part, {key: value}))
        told = {nearest(key, list(allowed)) for key in settings if key not in allowed}
        for key, default in allowed.items():
            if default is inspect.Parameter.empty and key not in {*settings, *told}:
                self.add(f"'{name}' lacks the setting '{key}'", *of)
        if len(self.mistakes) > before:
            return None
        return self.tried(of, lambda: parts.make(sort, name, dict(settings)))


def nearest(name: str, known: Collection[str]) -> str | None:
    """The nearest of the names that are known; none where all are far.

    >>> nearest("widht", ["width", "depth"])
    'width'
    """
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
