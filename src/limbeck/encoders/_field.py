"""The columns of a table, each as slots of ids with weights, and as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from limbeck.encoder import PAD, RESERVED, UNKNOWN, as_text, lookup
from limbeck.encoders.tfidf import Tfidf, analyzer_of
from limbeck.errors import UserError
from limbeck.types import Array, Lists

LARGEST = 1e30
"""Numbers beyond this measure nothing: they count as infinite, and the means of training rows as if they were not."""
HOURS, DAYS, MONTHS = 24, 7, 12
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class Slots:
    """What a field says of B rows.

    Args:
        ids: int64 (B, S), 0 nothing, 1 unknown, known values from 2.
        weights: float32 (B, S), 0 where the id is.
        numbers: float32 (B, F).
    """

    ids: Array
    weights: Array
    numbers: Array


def _slots(rows: int, ids: Array | None = None, weights: Array | None = None, numbers: Array | None = None) -> Slots:
    ids = np.zeros((rows, 0), np.int64) if ids is None else ids
    weights = (ids != PAD).astype(np.float32) if weights is None else weights
    return Slots(ids, weights, np.zeros((rows, 0), np.float32) if numbers is None else numbers)


@dataclass(frozen=True)
class Number:
    """A number: standardised, 0 where it is missing, and then told so by a second number.

    Values are drawn to the range of the training rows first, infinite ones and those beyond 1e30 too.

    Args:
        column: its name.
        low, high: of the training rows.
        mean, scale: of the training rows, after that.
        gaps: whether some training row lacks it.
    """

    kind: ClassVar[str] = "number"
    column: str
    low: float
    high: float
    mean: float
    scale: float
    gaps: bool

    of: ClassVar[str | None] = None
    slots: ClassVar[int] = 0
    size: ClassVar[int] = 0

    @classmethod
    def fit(cls, column: str, raw: Any) -> Number:
        """Range, mean and deviation; a constant keeps a scale of 1, and a column without values is always 0."""
        values = numbers_of(raw, column)
        plain = values[np.abs(values) <= LARGEST]
        if not len(plain):
            return cls(column, 0.0, 0.0, 0.0, 1.0, bool(np.isnan(values).any()))
        scale = float(plain.std())
        mean = float(plain.mean())
        steady = not scale > 1e-12 * max(1.0, abs(mean))
        bounds = float(plain.min()) + 0.0, float(plain.max()) + 0.0
        return cls(column, *bounds, mean, 1.0 if steady else scale, bool(np.isnan(values).any()))

    def numbers(self) -> list[str]:
        """Their names."""
        return [self.column, f"{self.column} is missing"] if self.gaps else [self.column]

    def clipped(self, raw: Any) -> Array:
        """Within the range of the training rows, NaN where missing, float64 (B,)."""
        return np.clip(numbers_of(raw, self.column), self.low, self.high) + 0.0  # -0.0 becomes 0.0

    def __call__(self, raw: Any) -> Slots:
        """One number, or two."""
        clipped = self.clipped(raw)
        missing = np.isnan(clipped)
        standard = np.where(missing, 0.0, (clipped - self.mean) / self.scale)
        columns = [standard, missing] if self.gaps else [standard]
        return _slots(len(clipped), numbers=np.stack(columns, 1).astype(np.float32))

    def flat(self, raw: Any, *, standard: bool) -> Array:
        """As `numbers` names them; not standardised they are in their own units, the mean where missing."""
        said = self(raw).numbers
        if not standard:
            clipped = self.clipped(raw)
            said[:, 0] = np.where(np.isnan(clipped), self.mean, clipped)
        return said


@dataclass(frozen=True)
class Category:
    """One value of a few, or of many.

    Args:
        column: its name.
        values: the known values as text, the commonest first.
        counts: training rows of each.
        buckets: where positive, values have no names: each falls into one of so many by its hash.
        others: training rows of values that are not among `values`.
    """

    kind: ClassVar[str] = "category"
    column: str
    values: tuple[str, ...]
    counts: tuple[int, ...]
    buckets: int = 0
    others: int = 0

    of: ClassVar[str | None] = None
    slots: ClassVar[int] = 1

    @classmethod
    def fit(cls, column: str, raw: Any, *, minimum: int = 2, most: int = 200_000, buckets: int = 0) -> Category:
        """Values by how common they are, ties by the alphabet; rare ones stand for what nobody has seen yet."""
        values, counts, others = vocabulary(raw, minimum, most)
        if buckets:
            return cls(column, (), (), buckets)
        return cls(column, values, counts, 0, others)

    @property
    def size(self) -> int:
        """Ids, the reserved ones included."""
        return RESERVED + (self.buckets or len(self.values))

    def numbers(self) -> list[str]:
        """None."""
        return []

    def local(self, raw: Any) -> Array:
        """Ids of values, one each."""
        if self.buckets:
            return hashed(raw, self.buckets) + RESERVED
        found = lookup(self.values, raw)
        found[found < 0] = UNKNOWN - RESERVED
        return found + RESERVED

    def __call__(self, raw: Any) -> Slots:
        """One slot."""
        return _slots(len(raw), ids=self.local(raw)[:, None])


@dataclass(frozen=True)
class Many:
    """Several values a row: a set such as genres, or what came before, latest last.

    Args:
        column: its name.
        values, counts, others: as of a category; of a history those of the column `of`.
        length: values kept a row, the last.
        of: the category whose values these are, for whoever gives both one vector; none for a set.
    """

    kind: ClassVar[str] = "many"
    column: str
    values: tuple[str, ...]
    counts: tuple[int, ...]
    length: int
    of: str | None = None
    buckets: int = 0
    others: int = 0

    @property
    def slots(self) -> int:
        """As many as values are kept."""
        return self.length

    @property
    def size(self) -> int:
        """Ids, the reserved ones included."""
        return RESERVED + (self.buckets or len(self.values))

    @classmethod
    def fit(cls, column: str, raw: Lists, *, minimum: int = 2, most: int = 200_000, length: int | None = None) -> Many:
        """Values by how common they are; without a length that of the longest training row, 64 at most."""
        values, counts, others = vocabulary(raw.values, minimum, most)
        longest = int(np.diff(raw.offsets).max(initial=1))
        return cls(column, values, counts, min(longest, 64) if length is None else length, None, 0, others)

    def numbers(self) -> list[str]:
        """Of a history, how long it is."""
        return [f"{self.column} length"] if self.of else []

    def local(self, raw: Any) -> Array:
        """Ids of values, one each."""
        return Category(self.column, self.values, self.counts, self.buckets).local(raw)

    def __call__(self, raw: Lists) -> Slots:
        """`length` slots, filled from the left; the weights of a row add to 1."""
        lists(raw, self.column)
        counts = np.diff(raw.offsets)
        kept = np.minimum(counts, self.length)
        ids = np.zeros((len(raw), self.length), np.int64)
        row = np.repeat(np.arange(len(raw)), kept)
        within = np.arange(len(row)) - np.repeat(np.cumsum(kept) - kept, kept)
        ids[row, within] = self.local(raw.values)[np.repeat(raw.offsets[:-1] + counts - kept, kept) + within]
        weights = (ids != PAD) / np.maximum(kept, 1)[:, None]
        long = np.log1p(counts)[:, None].astype(np.float32) if self.of else None
        return _slots(len(raw), ids, weights.astype(np.float32), long)


@dataclass(frozen=True)
class Text:
    """The heaviest terms of a text by TF-IDF.

    Args:
        column: its name.
        values: the known terms.
        idf: of each.
        analyzer: of words or characters.
        length: terms kept a text.
    """

    kind: ClassVar[str] = "text"
    column: str
    values: tuple[str, ...]
    idf: tuple[float, ...]
    analyzer: Literal["words", "characters"]
    length: int

    of: ClassVar[str | None] = None
    counts: ClassVar[tuple[int, ...]] = ()

    @property
    def slots(self) -> int:
        """As many as terms are kept."""
        return self.length

    @property
    def size(self) -> int:
        """Ids, the reserved ones included."""
        return RESERVED + len(self.values)

    @classmethod
    def fit(cls, column: str, raw: Sequence[str], *, minimum: int = 2, most: int = 20_000, length: int = 32) -> Text:
        """Terms of one and two words (of one to three characters where words are not told apart)."""
        analyzer = analyzer_of(raw)
        ngrams = (1, 2) if analyzer == "words" else (1, 3)
        found = Tfidf.fit(column, raw, analyzer=analyzer, ngrams=ngrams, minimum=minimum, features=most)
        return cls(column, found.terms, tuple(found.idf.tolist()), analyzer, length)

    @cached_property
    def terms(self) -> Tfidf:
        """What finds them."""
        ngrams = (1, 2) if self.analyzer == "words" else (1, 3)
        how: Any = {"analyzer": self.analyzer, "ngrams": ngrams, "length": self.length}
        return Tfidf(self.column, self.values, np.array(self.idf), **how)

    def numbers(self) -> list[str]:
        """None."""
        return []

    def __call__(self, raw: Sequence[str]) -> Slots:
        """`length` slots, filled from the left."""
        if not isinstance(raw, list):
            raise UserError(f"column '{self.column}' is read as text, but holds no strings")
        said = self.terms(raw)
        ids, weights = np.zeros((len(raw), self.length), np.int64), np.zeros((len(raw), self.length), np.float32)
        width = said["terms"].shape[1]
        ids[:, :width], weights[:, :width] = said["terms"], said["weights"]
        return _slots(len(raw), ids, weights)


@dataclass(frozen=True)
class Time:
    """The hour of the day, the day of the week and the month (UTC) of a moment; nothing where it is missing.

    Args:
        column: its name.
        unit: of numbers, since 1970: `s`, `ms` or `us`; what Arrow calls a time comes in `us`.
    """

    kind: ClassVar[str] = "time"
    column: str
    unit: Literal["s", "ms", "us"] = "us"

    of: ClassVar[str | None] = None
    slots: ClassVar[int] = 3
    size: ClassVar[int] = RESERVED + HOURS + DAYS + MONTHS
    counts: ClassVar[tuple[int, ...]] = ()

    @classmethod
    def fit(cls, column: str, raw: Any, *, unit: Literal["s", "ms", "us"] = "us") -> Time:
        """Nothing is learnt."""
        return cls(column, unit)

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the ids."""
        names = [f"hour {h}" for h in range(HOURS)]
        names += [f"weekday {d}" for d in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")]
        return (*names, *(f"month {m}" for m in range(1, MONTHS + 1)))

    def numbers(self) -> list[str]:
        """None."""
        return []

    def __call__(self, raw: Any) -> Slots:
        """Three slots."""
        moment = numbers_of(raw, self.column) * UNITS[self.unit]
        known = np.abs(moment) < 2.5e17  # the years -5900 to 9900 of NumPy's calendar, in microseconds
        micros = np.where(known, moment, 0).astype(np.int64)
        hours = micros // 3_600_000_000
        month = micros.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % MONTHS
        weekday = (hours // HOURS + 3) % DAYS  # 1 January 1970 was a Thursday
        parts = np.stack([hours % HOURS, HOURS + weekday, HOURS + DAYS + month], 1)
        return _slots(len(micros), np.where(known[:, None], parts + RESERVED, PAD))


Field = Number | Category | Many | Text | Time
FIELDS: Mapping[str, type[Any]] = {cls.kind: cls for cls in (Number, Category, Many, Text, Time)}


def saved(one: Field) -> dict[str, Any]:
    """A field as JSON."""
    return {"kind": one.kind, **asdict(one)}


def loaded(said: Mapping[str, Any]) -> Field:
    """What `saved` made."""
    told = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items() if key != "kind"}
    found: Field = FIELDS[said["kind"]](**told)
    return found


def vocabulary(raw: Any, minimum: int, most: int) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Values that occur so often, the commonest first, how often each does, and how often all others do."""
    if len(raw) == 0:
        return (), (), 0
    counted = pc.value_counts(pc.fill_null(as_text(raw), ""))
    pairs = sorted(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True), key=_commonest)
    kept = [(value, count) for value, count in pairs if count >= minimum][:most]
    values, counts = tuple(value for value, _ in kept), tuple(count for _, count in kept)
    return values, counts, sum(count for _, count in pairs) - sum(counts)


def _commonest(pair: tuple[str, int]) -> tuple[int, str]:
    return -pair[1], pair[0]


def hashed(raw: Any, buckets: int) -> Array:
    """A bucket for every value, int64: the same on every machine, and for the number 7 and the text "7"."""
    found = pc.dictionary_encode(pc.fill_null(as_text(raw), ""))
    known = found.dictionary.to_pylist()
    place = np.array([xxhash.xxh64_intdigest(text.encode("utf-8", "surrogatepass")) % buckets for text in known])
    return place.astype(np.int64)[found.indices.to_numpy()] if len(known) else np.zeros(len(raw), np.int64)


def numbers_of(raw: Any, column: str) -> Array:
    """Raw values as float64 (B,), NaN where missing.

    Raises:
        UserError: they are no numbers.
    """
    if isinstance(raw, Lists):
        raise UserError(f"column '{column}' is read as a number, but holds a list a row")
    if isinstance(raw, list):
        filled = pa.array([value or None for value in raw], pa.string())
        try:
            return np.asarray(pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False), np.float64)
        except pa.ArrowInvalid as wrong:
            raise UserError(f"column '{column}' is read as a number, but holds text: {wrong}") from None
    return np.asarray(raw, np.float64)


def lists(raw: Any, column: str) -> None:
    """Refuse what holds one value a row."""
    if not isinstance(raw, Lists):
        raise UserError(f"column '{column}' is read as a list a row, but holds one value a row")
