"""HTML and SVG as values: whatever is not already markup is escaped when it becomes part of it."""

from __future__ import annotations

import json
from html import escape

from limbeck.page.word import Text, Word

VOID = {"br", "input", "meta"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = Html | Text | None
Attribute = str | int | float | bool | None


def element(name: str, *children: Child, **attributes: Attribute) -> Html:
    """One element.

    Args:
        name: of the tag.
        children: markup, text to be escaped, or words (which can change language); None is nothing.
        attributes: `class_` is written `class`, `data_t` is `data-t`; True stands alone, None and
            False are left out.

    >>> element("b", "1 < 2", class_="x")
    '<b class="x">1 &lt; 2</b>'
    """
    said = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(children)}</{name}>")


def join(children: tuple[Child, ...] | list[Html]) -> Html:
    """Children end to end."""
    return Html("".join(_child(child) for child in children))


def word(name: str, said: Word, **attributes: Attribute) -> Html:
    """An element whose only content is a word, so that the page can say it in the other language.

    It takes no wrapper: `option` and SVG's `text` allow none.
    """
    return element(name, said.say(), **attributes, data_t=said.key, data_v=_values(said))


def labelled(name: str, said: Word, *children: Child, **attributes: Attribute) -> Html:
    """An element that a word names without being shown, in either language."""
    return element(name, *children, **attributes, aria_label=said.say(), data_t_label=said.key, data_v=_values(said))


def _values(said: Word) -> str | None:
    values = {key: value if isinstance(value, str) else [value.key] for key, value in said.values}
    return json.dumps(values, ensure_ascii=False) if values else None


def text(name: str, said: Text, **attributes: Attribute) -> Html:
    """An SVG text: its pieces as `tspan`, words among them."""
    pieces = said if isinstance(said, tuple) else (said,)
    spans = [word("tspan", p) if isinstance(p, Word) else Html(escape(p)) for p in pieces if p]
    return element(name, Html(" ".join(spans)), **attributes)


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, Word):
        return word("span", child)
    if isinstance(child, tuple):
        return " ".join(_child(piece) for piece in child if piece)
    return escape(child)


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    if isinstance(value, float):
        value = f"{value:.1f}".rstrip("0").rstrip(".")
    return f' {name}="{escape(str(value))}"'


def script_json(value: object) -> Html:
    r"""JSON that is safe inside `<script type="application/json">`: no `<`, `>` or `&` is left in it.

    >>> script_json({"a": "</script>"})
    '{"a":"\\u003c/script\\u003e"}'
    """
    held = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        held = held.replace(sign, f"\\u{ord(sign):04x}")
    return Html(held)
