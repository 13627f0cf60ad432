"""One table, drawn as HTML or as Markdown, so that both say the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

from limbeck.page.chart import mark
from limbeck.page.element import Html, element, join, labelled
from limbeck.page.number import MISSING
from limbeck.page.word import Text, Word, english
from limbeck.report import Role

BAR = 100.0


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table.

    Args:
        text: what it says.
        note: said below, smaller.
        role: of the row it names, drawn as that role's mark and word.
        bar: 0 to 1, drawn as a bar under the text.
        best: marked as the best of its column.
        kind: the role a bar is coloured for.
    """

    text: Text
    note: Text = ""
    role: Role | None = None
    bar: float | None = None
    best: bool = False
    kind: Role | None = None


@dataclass(frozen=True)
class Table:
    """Columns and rows.

    Args:
        columns: headings.
        rows: of cells, or of bare text.
        words: how many columns from the left hold words; the others hold numbers.
    """

    columns: tuple[Cell | Text, ...]
    rows: tuple[tuple[Cell | Text, ...], ...]
    words: int = 1

    def html(self, name: Word, *, cards: bool = False) -> Html:
        """The table in a box that scrolls by itself while its first column stays.

        Args:
            name: of the box, for those who do not see it.
            cards: whether rows become cards on a narrow screen instead.
        """
        heads = [
            element("th", *_drawn(_cell(head)), scope="col", role="columnheader", class_=self._class(i))
            for i, head in enumerate(self.columns)
        ]
        top = element("thead", element("tr", *heads, role="row"), role="rowgroup")
        rows = [element("tr", *self._cells(row, cards), role="row") for row in self.rows]
        # The roles are spelt out because cards change `display`, which would take them away.
        whole = element("table", top, element("tbody", *rows, role="rowgroup"), role="table")
        return labelled("div", name, whole, class_="scroll cards" if cards else "scroll", tabindex=0, role="region")

    def _class(self, column: int) -> str | None:
        if column < self.words:
            return None
        if column == self.words:
            return "number first"
        return "number interval" if self.columns[column] == Word("interval") else "number"

    def _cells(self, row: tuple[Cell | Text, ...], cards: bool) -> list[Html]:
        answer = []
        for i, cell in enumerate(map(_cell, row)):
            label = element("span", _cell(self.columns[i]).text, class_="label") if cards and i else None
            name, role = ("th", "rowheader") if i == 0 else ("td", "cell")
            body = element("span", *_drawn(cell), class_="said", dir="auto" if i < self.words else None)
            scope = "row" if i == 0 else None
            empty = "missing" if cards and cell.text == MISSING else None
            kind = " ".join(filter(None, (self._class(i), empty))) or None
            answer.append(element(name, label, body, scope=scope, role=role, class_=kind))
        return answer

    def markdown(self) -> str:
        """A GitHub table."""
        lines = [
            [_plain(head) for head in self.columns],
            ["---" if i < self.words else "---:" for i in range(len(self.columns))],
            *([_plain(cell) for cell in row] for row in self.rows),
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(item: Cell | Text) -> Cell:
    return item if isinstance(item, Cell) else Cell(item)


def _drawn(cell: Cell) -> list[Html | Text | None]:
    bar = None
    if cell.bar is not None:
        width = max(0.0, min(1.0, cell.bar)) * BAR
        inner = element("rect", width=width, height=6, class_=f"fill-{cell.kind or 'trivial'}")
        bar = element("svg", inner, viewBox="0 0 100 6", preserveAspectRatio="none", class_="bar", aria_hidden="true")
    role = element("span", mark(cell.role), Word(cell.role), class_=f"role {cell.role}") if cell.role else None
    small = (
        element("small", role, " · " if cell.role and cell.note else None, cell.note)
        if cell.role or cell.note
        else None
    )
    text = element("b", cell.text) if cell.role or cell.best else cell.text
    star = element("span", "★ ", Word("best"), class_="star") if cell.best else None
    return [text, star, small, bar]


def _plain(item: Cell | Text) -> str:
    cell = _cell(item)
    name = _flat(english(cell.text))
    said = f"{name}, {cell.role}" if cell.role else name
    said = f"**{said}**" if cell.best else said
    return f"{said} ({_flat(english(cell.note))})" if cell.note else said


def _flat(text: str) -> str:
    return escape_markdown(" ".join(text.split()))


def escape_markdown(text: str) -> str:
    r"""Text that Markdown shows as it is, HTML and table lines included.

    >>> escape_markdown("a|b <i>")
    'a\\|b &lt;i>'
    """
    return re.sub(r"([\\`*\[\]|])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")


def legend(roles: list[Role]) -> Html:
    """What the marks of these roles look like."""
    items = [element("li", mark(role), Word(role), class_=f"role {role}") for role in roles]
    return element("ul", join(items), class_="legend")
