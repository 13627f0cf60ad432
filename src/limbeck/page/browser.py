"""The browser of rows on which teacher and student differ: its controls; the page's script fills it."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.page.element import Html, element, word
from limbeck.page.word import Word
from limbeck.report import Protocol

SHOWN = ("all", "differ", "lost", "gained", "both_wrong")
SORTED = ("disagreement", "teacher_p", "student_p", "id")


def browser(protocols: Sequence[Protocol]) -> Html:
    """Search, filters, sorting, and an empty list."""
    search = element("input", type="search", id="row-search", autocomplete="off", spellcheck="false")
    names = [element("option", p.name, value=p.name) for p in protocols]
    fields = [
        _field("search", "row-search", search),
        _field("show", "row-show", _select("row-show", SHOWN)),
        _field("sort", "row-sort", _select("row-sort", SORTED)),
    ]
    if len(protocols) > 1:
        chosen = element("select", word("option", Word("any"), value=""), *names, id="row-protocol")
        fields.insert(1, _field("protocol", "row-protocol", chosen))
    turn = word("button", Word("descending"), type="button", id="row-order", aria_pressed="false")
    return element(
        "section",
        word("h2", Word("rows")),
        word("p", Word("rows_note"), class_="lead"),
        element("noscript", word("p", Word("needs_script"))),
        element("form", *fields, turn, class_="controls", id="row-controls"),
        element("p", id="row-status", role="status", class_="status"),
        element("ol", id="row-list", tabindex=0, aria_describedby="row-keys", class_="rows"),
        element(
            "div",
            word("button", Word("previous"), type="button", id="row-previous"),
            word("button", Word("next"), type="button", id="row-next"),
            word("small", Word("keys"), id="row-keys"),
            class_="pager",
        ),
        id="rows",
    )


def _field(name: str, held: str, control: Html) -> Html:
    return element("div", word("label", Word(name), for_=held), control, class_="field")


def _select(name: str, keys: Sequence[str]) -> Html:
    return element("select", *(word("option", Word(key), value=key) for key in keys), id=name)
