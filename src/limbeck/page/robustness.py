"""What an audit of pictures found: curves over the radius of attacks and the severity of corruptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from limbeck.page.element import Html, element
from limbeck.page.number import number
from limbeck.page.plot import Axes, Series, lines
from limbeck.page.section import charts, details
from limbeck.page.table import Cell, Table
from limbeck.page.word import Text, Word, say
from limbeck.robustness import Number, Robustness, Withstood, radius_of


def robustness_note(found: Robustness) -> Word:
    """On which rows, and of whom."""
    return say(
        "robustness_note", rows=number(found.rows, "count"), all=number(found.test_rows, "count"), name=found.protocol
    )


def robustness_parts(found: Robustness) -> list[Html]:
    """Charts, what was done, and the numbers."""
    note = element("p", robustness_note(found), class_="lead")
    how = element("dl", *(_meaning(name, said) for name, said in found.how.items()), class_="glossary")
    parts = [
        note,
        charts(*_attack_charts(found)),
        charts(*_corruption_charts(found)),
        details(Word("numbers"), *(t.html(Word("numbers")) for t in robustness_tables(found))),
        details(Word("robustness_how"), how),
    ]
    return [part for part in parts if part is not None]


def _meaning(name: str, said: str) -> Html:
    # What the report itself says is never translated.
    return element("div", element("dt", name), element("dd", said, lang="en", dir="auto"), class_="meaning")


def _attack_charts(found: Robustness) -> Iterator[Html | None]:
    axes = Axes(Word("radius_of_255"), whole=False, heights=(0.0, 1.0))
    levels = [radius * 255 for radius in found.radii]
    for name in _students(found):
        some = _with(found, name)
        for attack in dict.fromkeys(attack for one in some for attack in one.attacks):
            series = [_series(one, levels, one.attacks.get(attack, ())) for one in some]
            yield lines(_title(found, name, attack), series, axes=axes)


def _corruption_charts(found: Robustness) -> Iterator[Html | None]:
    axes = Axes(Word("severity"), heights=(0.0, 1.0))
    levels = [float(severity) for severity in found.severities]
    for name in _students(found):
        some = _with(found, name)
        for kind in dict.fromkeys(kind for one in some for kind in one.corruptions):
            series = [_series(one, levels, one.corruptions.get(kind, ())) for one in some]
            yield lines(_title(found, name, kind), series, axes=axes)


def _students(found: Robustness) -> list[str]:
    return list(dict.fromkeys(one.name for one in found.predictors if one.role == "student"))


def _with(found: Robustness, name: str) -> list[Withstood]:
    """A student with its teacher and its twin."""
    return [one for one in found.predictors if one.role == "teacher" or one.name == name]


def _title(found: Robustness, name: str, what: str) -> Text:
    return (what,) if len(_students(found)) == 1 else (name, "·", what)


def _series(one: Withstood, levels: list[float], values: tuple[Number, ...]) -> Series:
    """A line that starts at the clean pictures; none where nothing was measured."""
    points = [(0.0, one.clean), *zip(levels, values, strict=True)] if values else []
    return Series(Word(one.role), one.role, tuple(points))


def robustness_tables(found: Robustness) -> list[Table]:
    """Everybody's accuracy under each attack, and under each corruption."""
    attacks = list(dict.fromkeys(name for one in found.predictors for name in one.attacks))
    kinds = list(dict.fromkeys(name for one in found.predictors for name in one.corruptions))
    radii = [radius_of(radius) for radius in found.radii]
    tables = [
        _table(found, attacks, radii, {id(one): one.attacks for one in found.predictors}),
        _table(
            found, kinds, [str(s) for s in found.severities], {id(one): one.corruptions for one in found.predictors}
        ),
    ]
    return [table for table in tables if len(table.columns) > 2]


def _table(
    found: Robustness, names: list[str], levels: list[str], of: Mapping[int, Mapping[str, tuple[Number, ...]]]
) -> Table:
    heads: tuple[Cell | Text, ...] = (
        Word("model"), Word("clean"), *((name, level) for name in names for level in levels),
    )  # fmt: skip
    rows: list[tuple[Cell | Text, ...]] = []
    for one in found.predictors:
        values = [v for name in names for v in of[id(one)].get(name, (None,) * len(levels))]
        rows.append((Cell(one.name, one.note or "", one.role), number(one.clean), *map(number, values)))
    return Table(heads, tuple(rows))
