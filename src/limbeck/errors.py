"""What can go wrong, each with its exit code and a message that says how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LimbeckError(Exception):
    """Root of every error Limbeck raises on purpose.

    The command line prints the message without a traceback and leaves with `exit_code`.
    """

    exit_code = 1


class UserError(LimbeckError):
    """The input, the recipe or the command is wrong; the user can mend it."""

    exit_code = 2


class GateRefused(LimbeckError):
    """The teacher does not beat the task's trivial baselines on validation rows."""

    exit_code = 3


class ParityRefused(LimbeckError):
    """The exported or quantised file does not answer as the student does."""

    exit_code = 4


class Diverged(LimbeckError):
    """Training kept producing non-finite losses after rolling back."""

    exit_code = 5


class Stopped(LimbeckError):
    """A search gave a training up before its end; nothing of it is kept."""


class MissingExtra(UserError):
    """A part needs packages that the present install lacks.

    Args:
        extra: the extra of `limbeck[...]` that brings them.
        wanted_by: what asked for it, in the user's words.
    """

    def __init__(self, extra: str, wanted_by: str) -> None:
        super().__init__(f"{wanted_by} needs more packages: pip install 'limbeck[{extra}]'")


class NoSuchName(UserError, KeyError):
    """A column or signal was asked for by a name that is not there; a KeyError too, as mappings need."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownKey(UserError):
    """Knowledge was asked for a row it does not hold."""


class StoreDamaged(UserError):
    """A shard or record of a store does not match its checksum."""


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a recipe, with the place the user typed it."""

    message: str
    line: int | None = None
    where: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        where = f"{self.where}: " if self.where else ""
        return f"{place}{where}{self.message}"


class RecipeError(UserError):
    """Every problem of a recipe at once."""

    def __init__(self, source: str, mistakes: list[Mistake]) -> None:
        self.source = source
        self.mistakes = mistakes
        super().__init__("\n".join([f"{source}: {counted(len(mistakes), 'problem')}", *(f"  {m}" for m in mistakes)]))


def few(values: Sequence[object]) -> str:
    """The first five, quoted, and how many more.

    >>> few(["a", "b"])
    "'a', 'b'"
    """
    shown = ", ".join(repr(value) for value in values[:5])
    return shown + (f" and {len(values) - 5} more" if len(values) > 5 else "")


def counted(number: int, what: str) -> str:
    """A number of things.

    Args:
        number: how many.
        what: one of them; the word before an `of`, or the last, takes the s.

    >>> counted(1, "row"), counted(2000, "test row"), counted(0, "row of user 7"), counted(3, "class")
    ('1 row', '2,000 test rows', '0 rows of user 7', '3 classes')
    """
    head, of, rest = what.partition(" of ")
    if number != 1:
        head += "es" if head.endswith("s") else "s"
    return f"{number:,} {head}{of}{rest}"
