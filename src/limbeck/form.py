"""Mistakes of a recipe's form, each told once; and what can still be read of the rest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from limbeck.complaint import complaint
from limbeck.errors import Mistake
from limbeck.yaml_lines import Lines, Place, dotted

ROUNDS = 10
"""Validations at most: each mends what the one before found, and may lay bare what that had hidden."""
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
Blank = Callable[[int], Any]
Read = TypeVar("Read", bound=BaseModel)


@dataclass
class Form(Generic[Read]):
    """What a mapping says, as far as its form allows.

    Args:
        model: what it should be.
        said: as typed; mended in place, for a mistake in one key should not hide those in others.
        lines: where the user typed what.
        blanks: key that must be given -> what stands for the entry of this number where none can be read.
        lists: those of these keys that hold a list of entries.
        mistakes: found so far.
        untold: places of which nothing more is to be said: what stands there now, the user never typed.
    """

    model: type[Read]
    said: dict[str, Any]
    lines: Lines
    blanks: Mapping[str, Blank]
    lists: frozenset[str]
    mistakes: list[Mistake] = field(default_factory=list)
    untold: set[Place] = field(default_factory=set)

    def read(self) -> Read | None:
        """The value, with blanks where something else was typed; none where even that cannot be had."""
        for _ in range(ROUNDS):
            try:
                return self.model.model_validate(self.said)
            except ValidationError as wrong:
                self._mend(wrong)
        return None

    def _mend(self, wrong: ValidationError) -> None:
        before = frozenset(self.untold)
        handled = set()
        errors = list(_telling(wrong))
        for error in errors:
            if error["type"] == "missing" and (typed := self._meant(error["loc"])):
                self._rename(typed, error["loc"])
                handled |= {typed, error["loc"]}
        about: dict[Place, list[dict[str, Any]]] = {}
        for error in errors:
            if error["loc"] not in handled:
                about.setdefault(self._typed(error), []).append(error)
        for place, said in about.items():
            if said[0]["type"] in UNKNOWN:
                self._unknown(place)
                continue
            if not any(_within(place, other) or _within(other, place) for other in before):
                self.mistakes.append(Mistake(complaint(*said), self.lines.of(place), dotted(place)))
            self._clear(place[:-1] if said[0]["type"] == "missing" and len(place) > 1 else place)

    def _typed(self, error: Mapping[str, Any]) -> Place:
        """What the user typed that an error is about: of all that a value might be, a validator tells each apart."""
        place: Place = error["loc"]
        while error["type"] != "missing" and place[:-1] and self._at(place) is MISSING:
            place = place[:-1]
        return place

    def _meant(self, missing: Place) -> Place | None:
        """The key that was typed for one that is missing."""
        holder = self._at(missing[:-1])
        if not isinstance(holder, dict):
            return None
        known = keys_of(self.model, missing[:-1])
        near = difflib.get_close_matches(str(missing[-1]), [key for key in holder if key not in known], n=1)
        return (*missing[:-1], near[0]) if near else None

    def _unknown(self, typed: Place) -> None:
        holder = self._at(typed[:-1])
        near = difflib.get_close_matches(str(typed[-1]), keys_of(self.model, typed[:-1]), n=1)
        if near and isinstance(holder, dict) and near[0] not in holder:
            self._rename(typed, (*typed[:-1], near[0]))
            return
        hint = f"; did you mean '{near[0]}'?" if near else ""
        self.mistakes.append(Mistake(f"unknown key '{typed[-1]}'{hint}", self.lines.of(typed), dotted(typed)))
        if isinstance(holder, dict):
            holder.pop(str(typed[-1]), None)

    def _rename(self, typed: Place, meant: Place) -> None:
        said = f"unknown key '{typed[-1]}'; did you mean '{meant[-1]}'?"
        self.mistakes.append(Mistake(said, self.lines.of(typed), dotted(typed)))
        holder = self._at(typed[:-1])
        if typed[-1] in holder:  # an alias of what is mended already has it no more
            holder[meant[-1]] = holder.pop(typed[-1])
        self.lines.also(typed, meant)

    def _clear(self, place: Place) -> None:
        """Take out what stands at a place, or put a blank where something must."""
        while place and place[:-1] and self._at(place) is MISSING:
            place = place[:-1]  # a step that only the validator knows, or a value that is gone already
        while place and isinstance(place[-1], int) and not self._is_entry(place):
            place = place[:-1]
        if not place:
            return
        self.untold.add(place)
        blank = self.blanks.get(str(place[0]))
        holder = self._at(place[:-1])
        if blank is not None and self._is_entry(place):
            holder[place[-1]] = blank(int(place[-1]))
        elif blank is not None and len(place) == 1:
            holder[place[0]] = [blank(0)] if place[0] in self.lists else blank(0)
        elif isinstance(holder, dict):
            holder.pop(place[-1], None)

    def _is_entry(self, place: Place) -> bool:
        return len(place) == 2 and place[0] in self.lists and isinstance(self._at(place[:1]), list)

    def _at(self, place: Place) -> Any:
        held: Any = self.said
        for step in place:
            known = isinstance(held, dict) and step in held
            known = known or (isinstance(held, list) and isinstance(step, int) and step < len(held))
            if not known:
                return MISSING
            held = held[step]
        return held


MISSING = object()


def untold(places: set[Place], place: Place) -> bool:
    """Whether nothing is to be said of a place: it, or one above it, is among those."""
    return any(_within(place, other) for other in places)


def keys_of(model: Any, place: Place) -> list[str]:
    """The keys that may stand at a place of a model."""
    for step in place:
        if isinstance(step, int) or not isinstance(model, type) or not issubclass(model, BaseModel):
            continue
        held = model.model_fields.get(step)
        annotation: Any = held.annotation if held else None
        inner = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = inner[0] if inner else annotation
    return list(getattr(model, "model_fields", {}) or getattr(model, "__dataclass_fields__", {}))


def _within(place: Place, other: Place) -> bool:
    return place[: len(other)] == other


def _telling(wrong: ValidationError) -> Iterator[dict[str, Any]]:
    """What a validator says, without what follows from something else it says."""
    told: list[dict[str, Any]] = [{**error, "loc": tuple(error["loc"])} for error in wrong.errors()]
    # A list whose one member is wrong counts as too short to pydantic; the member's own mistake says more.
    inner = {e["loc"][:-1] for e in told} | {e["loc"][:1] for e in told if len(e["loc"]) > 1}
    return (e for e in told if e["type"] != "too_short" or e["loc"] not in inner)
