"""A table's columns to a model's tensors: categories, numbers, sets, histories, texts and moments.

What models need of it:

- `Columns.fit(rows, names, said)` looks at training rows and finds what every column is (`kinds_of`: by its Arrow type
  and role, unless the recipe says otherwise). Families of models take it from `column_reader.ColumnReader`.
- Called with raw columns by name, the form `ids` says three tensors of fixed shape, for models that embed:
  `ids` int64 (B, S), 0 nothing, every known value of every column an id of its own in one table of `size` rows;
  `weights` float32 (B, S), what each slot counts for (1 of a category, adding to 1 over a set, TF-IDF of a term, 0
  where there is nothing); `numbers` float32 (B, F), standardised.
- `layout` says which slots, ids and numbers are whose: one `Place` a column.
- The form `flat` (`encoding.flattened(...)`) says one tensor `features` float32 (B, D), the design matrix of
  estimators: a 0/1 column for each of the commonest values of a category or set (`one_hot` at most, the rest together
  in one more), terms' weights, numbers. `names` says what its D columns are called: `name=value`, or the number's name.
- `id_names` and `number_names` do the same for coefficients in the form `ids`.

What becomes of odd values: one that no training row has is unknown (and so are values of a single training row, from
which models learn what unknown ones are like); an empty text or a null is a value like others where training rows have
it; numbers are drawn to the range of the training rows, infinite ones too, and are 0 where missing, with a number
beside them that says so if training rows lack some; a constant or empty column says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck.encoder import PAD, RESERVED
from limbeck.encoders._field import FIELDS, Category, Field, Many, Number, Slots, Text, loaded, saved
from limbeck.errors import UserError, few
from limbeck.types import Array, Lists, Rows, fingerprint

Form = Literal["ids", "flat"]
Said = Mapping[str, str | Mapping[str, Any]]
"""What a recipe says of columns: name -> kind, or its kind and settings."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "category": ("minimum", "most", "buckets"),
    "number": (),
    "many": ("minimum", "most", "length"),
    "history": ("of", "length"),
    "text": ("minimum", "most", "length"),
    "time": ("unit",),
    "left_out": (),
}
"""Kind -> the settings that a recipe may give it."""

NAMED = ("user", "item")
"""Roles whose columns are categories even where they hold whole numbers."""
WORDY = 24
"""Bytes that a column's texts have on average at least; what is shorter, or comes again and again, is a category."""


@dataclass(frozen=True)
class Place:
    """Where a column is in the tensors.

    Args:
        field: the column.
        slots: of `ids` and `weights`, along the second axis.
        ids: of the table; the first is the unknown value.
        numbers: of `numbers`, along the second axis.
    """

    field: Field
    slots: slice
    ids: slice
    numbers: slice


class Columns:
    """The columns of a table together.

    Args:
        fields: one a column, in order.
        form: `ids` for models that embed, `flat` for estimators.
        one_hot: in the form `flat`, the values of a column at most that have a column of their own.
        standard: in the form `flat`, whether numbers are standardised; else they are in their own units, the training
            rows' mean where missing, so that the rules of a tree can be read.
    """

    kind = "columns"

    def __init__(
        self, fields: Sequence[Field], *, form: Form = "ids", one_hot: int = 64, standard: bool = True
    ) -> None:
        if not fields:
            raise UserError("there are no columns to read; name some under data.roles.features, or leave that out")
        if one_hot < 1:
            raise UserError(f"one_hot is {one_hot}; a category needs at least 1 column")
        self.fields = tuple(fields)
        self.column = fields[0].column
        self.form: Form = form
        self.one_hot = one_hot
        self.standard = standard

    @staticmethod
    def fit(rows: Rows, names: Sequence[str], said: Said | None = None) -> Columns:
        """Learn vocabularies, ranges and terms.

        Args:
            rows: training rows only.
            names: of the columns to read.
            said: what the recipe says of some.

        Raises:
            UserError: as `kinds_of` says; or a history is of no column that is there.
        """
        kinds = kinds_of(rows, names, said or {})
        fields: dict[str, Field] = {}
        for name, how in sorted(kinds.items(), key=lambda one: one[1]["kind"] == "history"):
            if how["kind"] != "left_out":
                fields[name] = _fitted(rows, name, how, fields)
        return Columns([fields[name] for name in kinds if name in fields])

    def flattened(self, *, one_hot: int = 64, standard: bool = True) -> Columns:
        """The same columns as a design matrix."""
        return Columns(self.fields, form="flat", one_hot=one_hot, standard=standard)

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns it takes."""
        return tuple(one.column for one in self.fields)

    @cached_property
    def layout(self) -> tuple[Place, ...]:
        """Where every column is in the tensors of the form `ids`."""
        places, slot, id_, number = [], 0, 1, 0
        for one in self.fields:
            ends = slot + one.slots, id_ + max(0, one.size - 1), number + len(one.numbers())
            places.append(Place(one, slice(slot, ends[0]), slice(id_, ends[1]), slice(number, ends[2])))
            slot, id_, number = ends
        return tuple(places)

    def place(self, column: str) -> Place:
        """Of one column."""
        return next(place for place in self.layout if place.field.column == column)

    @property
    def size(self) -> int:
        """Rows of the table that `ids` point into; row 0 is nothing."""
        return self.layout[-1].ids.stop

    @property
    def number_names(self) -> tuple[str, ...]:
        """Of the columns of `numbers`."""
        return tuple(name for one in self.fields for name in one.numbers())

    @cached_property
    def id_names(self) -> tuple[str, ...]:
        """Of the rows of the table: nothing, and `column=value`."""
        names = ["nothing"]
        for place in self.layout:
            if place.field.size:
                names += [f"{place.field.column} is unknown", *_value_names(place.field)]
        return tuple(names)

    def __call__(self, column: Mapping[str, Any]) -> dict[str, Array]:
        """`ids` (B, S), `weights` (B, S) and `numbers` (B, F); or `features` (B, D).

        Args:
            column: raw columns by name.
        """
        if self.form == "flat":
            return {"features": np.concatenate([self._flat(one, column[one.column]) for one in self.fields], 1)}
        said = [place.field(column[place.field.column]) for place in self.layout]
        ids = [
            np.where(one.ids == PAD, PAD, one.ids + place.ids.start - 1)
            for one, place in zip(said, self.layout, strict=True)
        ]
        return {
            "ids": np.concatenate(ids, 1),
            "weights": np.concatenate([one.weights for one in said], 1),
            "numbers": np.concatenate([one.numbers for one in said], 1),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of `features`."""
        return tuple(name for one in self.fields for name in _flat_names(one, self.one_hot))

    def _flat(self, one: Field, raw: Any) -> Array:
        if isinstance(one, Number):
            return one.flat(raw, standard=self.standard)
        return _spread(one, one(raw), self.one_hot)

    def _keys(self) -> dict[str, Any]:
        how = {"form": self.form, "one_hot": self.one_hot, "standard": self.standard}
        return {"fields": [saved(one) for one in self.fields], **how}

    @cached_property
    def fingerprint(self) -> str:
        """Of the columns and the form."""
        return fingerprint("columns", 1, **self._keys())

    def save(self, folder: Path) -> dict[str, Any]:
        """One JSON file."""
        name = f"columns-{self.fingerprint[:8]}.json"
        (folder / name).write_text(json.dumps(self._keys(), ensure_ascii=False), encoding="utf-8")
        return {"file": name}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Columns:
        """Read what `save` wrote."""
        said = json.loads((folder / settings["file"]).read_text(encoding="utf-8"))
        return cls([loaded(one) for one in said.pop("fields")], **said)


def kinds_of(rows: Rows, names: Sequence[str], said: Said) -> dict[str, dict[str, Any]]:
    """What every column is, as the recipe says or as its type suggests.

    Text is a category where its values are short or come again; whole numbers are numbers, unless they name users or
    items; a list is a set of values.

    Returns:
        Name -> `kind` (of `KINDS`) and its settings, in the order of the names.

    Raises:
        UserError: a column that is not there, an unknown kind or setting, or a type that nothing can be learnt from.
    """
    wrong = [name for name in said if name not in rows.names]
    if wrong:
        raise UserError(f"columns names {few(wrong)}, which the rows do not have; there are: {', '.join(rows.names)}")
    return {name: _told(name, said[name]) if name in said else {"kind": _guessed(rows, name)} for name in names}


def _told(name: str, said: str | Mapping[str, Any]) -> dict[str, Any]:
    how = {"kind": said} if isinstance(said, str) else dict(said)
    kind = str(how.get("kind"))
    if kind not in KINDS:
        raise UserError(f"columns: '{name}' is of kind '{kind}'; there are: {', '.join(KINDS)}")
    unknown = [key for key in how if key != "kind" and key not in KINDS[kind]]
    if unknown:
        known = ", ".join(KINDS[kind]) or "none"
        raise UserError(f"columns: a {kind} such as '{name}' has no setting {few(unknown)}; it knows: {known}")
    if kind == "history" and "of" not in how:
        raise UserError(f"columns: the history '{name}' must say of which column, such as {{kind: history, of: item}}")
    bad = [key for key, value in how.items() if key not in ("kind", "of", "unit") and not _counts(value)]
    if bad or how.get("unit", "us") not in ("s", "ms", "us"):
        raise UserError(f"columns: '{name}': whole numbers of 1 or more were wanted, and of a unit s, ms or us: {how}")
    return how


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _guessed(rows: Rows, name: str) -> str:
    held = rows.table.schema.field(name).type
    held = held.value_type if pa.types.is_dictionary(held) else held
    if name in [rows.roles.get(role) for role in NAMED] or pa.types.is_boolean(held):
        return "category"
    if pa.types.is_string(held) or pa.types.is_large_string(held):
        column = rows.table.column(name)
        wordy = float(pc.mean(pc.binary_length(column)).as_py() or 0) > WORDY
        return "text" if wordy and 2 * pc.count_distinct(column).as_py() > len(rows) else "category"
    if pa.types.is_temporal(held):
        return "time"
    if pa.types.is_list(held) or pa.types.is_large_list(held):
        return "many"
    if pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_decimal(held) or pa.types.is_null(held):
        return "number"
    raise UserError(f"column '{name}' holds {held} values, of which a table's models can make nothing; leave it out")


def as_read(table: pa.Table, kinds: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """The table with columns of types that may be empty: what training rows lack, rows to come may lack too.

    Numbers become floating point, and categories that are missing somewhere text.

    Raises:
        UserError: text that is no number in a column of numbers.
    """
    for name, how in kinds.items():
        at, column = table.column_names.index(name), table.column(name)
        wanted = None
        if how["kind"] == "number" and column.type != pa.float64():
            wanted = pa.float64()
        elif how["kind"] == "category" and not pa.types.is_string(column.type) and column.null_count:
            wanted = pa.string()
        if wanted is not None:
            try:
                table = table.set_column(at, name, column.cast(wanted, safe=False))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as wrong:
                raise UserError(f"column '{name}' cannot be read as a {how['kind']}: {wrong}") from None
    return table


def _fitted(rows: Rows, name: str, how: Mapping[str, Any], others: Mapping[str, Field]) -> Field:
    settings = {key: value for key, value in how.items() if key not in ("kind", "of")}
    raw = rows.column(name)
    if how["kind"] in ("many", "history") and not isinstance(raw, Lists):
        raise UserError(f"columns: '{name}' is of kind {how['kind']}, but holds one value a row")
    if how["kind"] not in ("many", "history") and isinstance(raw, Lists):
        raise UserError(f"columns: '{name}' is of kind {how['kind']}, but holds a list a row")
    if how["kind"] != "history":
        found: Field = FIELDS[how["kind"]].fit(name, raw, **settings)
        return found
    of = others.get(how["of"])
    if not isinstance(of, Category):
        raise UserError(f"columns: the history '{name}' is of '{how['of']}', which is no category that is read")
    length = int(settings.get("length", 20))
    return Many(name, of.values, of.counts, length, of.column, of.buckets, of.others)


def _value_names(one: Field) -> list[str]:
    if isinstance(one, Number):
        return []
    if isinstance(one, Category | Many) and one.buckets:
        return [f"{one.column} bucket {i}" for i in range(one.buckets)]
    return [f"{one.column}={value}" for value in one.values]


def _kept(one: Field, most: int) -> Array:
    """Positions of the values that have a column of their own."""
    count = one.size - RESERVED
    if isinstance(one, Text):
        return np.sort(np.argsort(np.array(one.idf), kind="stable")[:most])
    if not isinstance(one, Category | Many):
        return np.arange(count)
    return np.arange(min(count, most))


def _flat_names(one: Field, most: int) -> list[str]:
    if isinstance(one, Number):
        return one.numbers()
    values = _value_names(one)
    names = [values[i] for i in _kept(one, most).tolist()]
    if isinstance(one, Category | Many):
        names.append(f"{one.column} is another")
    if _is_long(one, most):
        names.append(f"{one.column} is how common")
    return [*names, *one.numbers()]


def _is_long(one: Field, most: int) -> bool:
    """Whether values without a column of their own are told apart by how common they are in training rows."""
    return isinstance(one, Category) and len(one.values) > most


def _spread(one: Field, said: Slots, most: int) -> Array:
    """A field's part of the design matrix, float32 (B, D)."""
    rows, kept = len(said.ids), _kept(one, most)
    column = np.full(one.size, len(kept))  # by id; the last is for all that have none
    column[kept + RESERVED] = np.arange(len(kept))
    if isinstance(one, Category | Many) and one.buckets > most:
        column[RESERVED:] = np.arange(one.buckets) % most
    there = said.ids != PAD
    row, slot = np.nonzero(there)
    whole = np.zeros((rows, len(kept) + 1), np.float32)
    whole[row, column[said.ids[row, slot]]] = said.weights[row, slot] if isinstance(one, Text) else 1.0
    if not isinstance(one, Category | Many):
        return whole[:, :-1]
    extra = []
    if _is_long(one, most):
        counts = np.array([0, 0, *one.counts], np.float64)
        extra = [np.log1p(counts[said.ids[:, 0]])[:, None].astype(np.float32)]
    return np.concatenate([whole, *extra, said.numbers], 1)
