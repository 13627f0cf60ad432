"""What a validator objects to, in the words of whoever typed the value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SHOWN = 60
"""Letters of a value that are shown at most."""
WANTED = " was wanted"
NUMBER, WHOLE, TEXT = "a number was wanted", "a whole number was wanted", "text was wanted"
LIST, KEYS, TRUTH = "a list was wanted", "keys with values were wanted", "true or false was wanted"
DAY, MOMENT = "a date such as 2024-01-31 was wanted", "a date and time such as 2024-01-31T12:00 was wanted"

SAID: Mapping[str, str] = {
    "bool_parsing": TRUTH,
    "bool_type": TRUTH,
    "bytes_type": "bytes were wanted",
    "dataclass_type": KEYS,
    "date_from_datetime_inexact": DAY,
    "date_from_datetime_parsing": DAY,
    "date_parsing": DAY,
    "date_type": DAY,
    "datetime_from_date_parsing": MOMENT,
    "datetime_parsing": MOMENT,
    "datetime_type": MOMENT,
    "dict_type": KEYS,
    "finite_number": "a number that is neither infinite nor NaN was wanted",
    "float_parsing": NUMBER,
    "float_type": NUMBER,
    "frozen_set_type": LIST,
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "int_from_float": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": "a smaller whole number was wanted",
    "int_type": WHOLE,
    "invalid_key": "a key must be text",
    "iterable_type": LIST,
    "less_than": "it must be below {lt}",
    "less_than_equal": "it must be at most {le}",
    "list_type": LIST,
    "literal_error": "{expected} was wanted",
    "mapping_type": KEYS,
    "missing_argument": "a value is missing",
    "model_attributes_type": KEYS,
    "model_type": KEYS,
    "none_required": "nothing (null) was wanted",
    "set_type": LIST,
    "string_sub_type": TEXT,
    "string_type": TEXT,
    "tuple_type": LIST,
    "unexpected_positional_argument": "a value too many",
}
"""Kind of a pydantic error -> what is said of it."""


def said_of(error: Mapping[str, Any]) -> str:
    """One error in plain words, without what was found.

    >>> said_of({"type": "greater_than", "ctx": {"gt": 0.0}, "loc": ("epochs",)})
    'it must be above 0'
    >>> said_of({"type": "too_short", "ctx": {"min_length": 1, "actual_length": 0}, "loc": ("seeds",)})
    'the list is empty; at least 1 entry was wanted'
    """
    kind, facts = error["type"], error.get("ctx", {})
    if kind == "missing":
        last = error["loc"][-1]
        return f"entry {last + 1} is missing" if isinstance(last, int) else f"the key '{last}' is missing"
    if kind in ("too_short", "too_long"):
        return _length(kind, facts)
    plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in facts.items()}
    return SAID[kind].format_map(plain) if kind in SAID else str(error["msg"]).removeprefix("Value error, ")


def complaint(*errors: Mapping[str, Any]) -> str:
    """What is said of one value, be it by several errors of all that it might have been, and what was found."""
    said, first = all_said(errors), errors[0]
    if first["type"] == "missing" or isinstance(first.get("input", {}), dict | list | tuple):
        return said
    found = repr(first["input"])
    return f"{said}, found {found if len(found) <= SHOWN else f'{found[: SHOWN - 3]}...'}"


def _length(kind: str, facts: Mapping[str, Any]) -> str:
    found = facts.get("actual_length")
    held = "is empty" if found == 0 else f"has {'too many' if found is None else found} entries"
    few = kind == "too_short"
    bound = facts["min_length" if few else "max_length"]
    return f"the list {held}; at {'least' if few else 'most'} {bound} {'entry was' if bound == 1 else 'were'} wanted"


def all_said(errors: Iterable[Mapping[str, Any]]) -> str:
    """Several errors of all that one value might have been, each once."""
    each = [*dict.fromkeys(map(said_of, errors))]
    if len(each) > 1 and all(said.endswith(WANTED) for said in each):
        return " or ".join(said.removesuffix(WANTED) for said in each) + WANTED
    return " or ".join(each)
