"""What a loss' settings may be; an impossible value is refused in words."""

from __future__ import annotations

from limbeck.errors import UserError


def above_zero(name: str, value: float) -> float:
    """The value.

    Raises:
        UserError: it is 0, below, or no number.

    >>> above_zero("temperature", 4.0)
    4.0
    """
    if not 0 < value < float("inf"):
        raise UserError(f"{name} is {value}; it must be above 0")
    return value


def one_or_more(name: str, value: int) -> int:
    """The value.

    Raises:
        UserError: it is 0 or below.
    """
    if value < 1:
        raise UserError(f"{name} is {value}; it must be 1 or more")
    return value


def at_least_zero(name: str, value: float) -> float:
    """The value.

    Raises:
        UserError: it is below 0, or no number.
    """
    if not 0 <= value < float("inf"):
        raise UserError(f"{name} is {value}; it must be 0 or more")
    return value


def share(name: str, value: float, *, open: bool = False) -> float:
    """The value.

    Raises:
        UserError: it is not within 0 and 1; nor one of these, where `open`.
    """
    if not (0 < value < 1 if open else 0 <= value <= 1):
        raise UserError(f"{name} is {value}; it must be between 0 and 1{', and neither' if open else ''}")
    return value
