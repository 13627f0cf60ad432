"""What is kept of a predictor's signals: in which number format, and how much of a long head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from limbeck.errors import UserError
from limbeck.mix import mix
from limbeck.types import Array, Kind, Signals, stem_of

Dtype = Literal["float16", "bfloat16", "float32"]
RANKED: tuple[Kind, ...] = ("logits", "scores", "probabilities")
MASKED: tuple[Kind, ...] = ("logits", "scores")
"""The kinds in which -inf says 'ruled out', as an item the user has already bought."""

_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": float(np.finfo(np.float32).max)}
_OPEN_UNIT = {
    "float16": (2.0**-24, 1 - 2.0**-11),
    "bfloat16": (2.0**-126, 1 - 2.0**-8),
    "float32": (2.0**-126, 1 - 2.0**-24),
}
"""The least and greatest number of each format within (0, 1); subnormals only where float32 makes them normal."""
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Knowledge:
    """What a store keeps.

    Args:
        dtype: format of floating signals; tail masses are float32 always.
        top: of every ranked signal (logits, scores, probabilities) longer than this, keep the best
            `top` entries; none keeps all.
        sampled: with `top`, also this many entries drawn evenly from the others that are not ruled
            out. They follow the best in `.ids` and `.values`: position `top` is the first drawn.
        temperatures: with `top`, those at which the mass outside the kept entries is kept in `.tail`.
        seed: of the drawing, which depends on nothing else but the row's id and view.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    dtype: Dtype = "float16"
    top: int | None = None
    sampled: int = 0
    temperatures: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in _LARGEST:
            raise UserError(f"knowledge cannot be kept as '{self.dtype}'; use {', '.join(_LARGEST)}")
        if self.top is not None and self.top < 1:
            raise UserError(f"the number of best entries kept is {self.top}; it must be 1 or more")
        if self.sampled < 0 or (self.sampled and self.top is None):
            raise UserError(f"sampled is {self.sampled}; it must be 0 or more, and needs 'top' beside it")
        if not all(0 < t < float("inf") for t in self.temperatures):
            raise UserError(f"the temperatures are {list(self.temperatures)}; each must be a number above 0")


@dataclass(frozen=True)
class Packed:
    """One signal as it lies on disk.

    Args:
        data: (B, ...); bfloat16 as uint16, truth values as uint8.
        dtype: what the numbers mean: a NumPy name, `bfloat16` or `bool`.
    """

    data: Array
    dtype: str


@dataclass(frozen=True)
class Kept:
    """The signals of some rows as they lie on disk, and how many probabilities were clipped into (0, 1)."""

    columns: dict[str, Packed]
    clipped: int = 0


def keep(knowledge: Knowledge, signals: Signals, id: Array, view: Array) -> Kept:
    """What a store keeps of some rows; no row's answer depends on the rows beside it.

    Args:
        knowledge: how much is kept.
        signals: arrays with first axis B; heads that are cut already (`.ids`, `.values`, `.tail`) stay as they are.
        id: int64, (B,).
        view: int64, (B,).

    Raises:
        UserError: a value that is not finite (-inf is a mask in logits and scores), or too large for
            the format; tails of other temperatures.
    """
    _check_tails(knowledge, signals)
    columns: dict[str, Packed] = {}
    clipped = 0
    for name in signals:
        stem, part = stem_of(name)
        kind = signals.kinds[stem]
        values = np.asarray(signals[name])
        if part == "tail" and not knowledge.temperatures:
            continue
        if len(values) != len(id) or not values.ndim or 0 in values.shape[1:]:
            raise UserError(f"signal '{name}' has shape {values.shape}; its first axis must count {len(id)} rows")
        if part == "ids":
            columns[name] = _ids(name, values)
        elif part == "tail":
            columns[name] = _tail(name, values)
        elif knowledge.top and kind in RANKED and not part and values.ndim == 2 and values.shape[1] > knowledge.top:
            _finite(name, values, kind, id)
            ids, best, tail = shorten(values, knowledge, id, view, of_probabilities=kind == "probabilities")
            columns[f"{name}.ids"] = Packed(ids, "int32")
            columns[f"{name}.values"], changed = pack(f"{name}.values", best, kind, knowledge.dtype, id)
            if knowledge.temperatures:
                columns[f"{name}.tail"] = Packed(tail, "float32")
            clipped += changed
        else:
            columns[name], changed = pack(name, values, kind, knowledge.dtype, id)
            clipped += changed
    return Kept(columns, clipped)


def join(pieces: Sequence[Kept]) -> Kept:
    """The rows of all pieces, end to end.

    Raises:
        UserError: the pieces differ in names, formats or shapes.
    """
    first = pieces[0].columns
    shapes = {tuple((n, c.dtype, c.data.shape[1:]) for n, c in sorted(piece.columns.items())) for piece in pieces}
    if len(shapes) > 1:
        raise UserError(f"a teacher's signals must keep their names and shapes (pad and mask); found {sorted(shapes)}")
    columns = {n: Packed(np.concatenate([p.columns[n].data for p in pieces]), first[n].dtype) for n in first}
    return Kept(columns, sum(piece.clipped for piece in pieces))


def pack(name: str, values: Array, kind: Kind, dtype: Dtype, id: Array) -> tuple[Packed, int]:
    """One signal in its format, and how many probabilities were clipped.

    Probabilities that would be 0 or 1 in the format become its nearest number between.

    Raises:
        UserError: a value that is not finite, not a probability, too large for the format, or no number.
    """
    if values.dtype == np.bool_:
        return Packed(values.view(np.uint8), "bool"), 0
    if np.issubdtype(values.dtype, np.integer):
        return Packed(np.ascontiguousarray(values), str(values.dtype)), 0
    if not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"signal '{name}' is of type {values.dtype}; it must hold numbers")
    _finite(name, values, kind, id)
    largest = float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
    if largest > _LARGEST[dtype]:
        wider = "bfloat16 or float32" if dtype == "float16" else "smaller numbers"
        raise UserError(
            f"signal '{name}' reaches {largest:.6g}, beyond {_LARGEST[dtype]:.6g}, the largest {dtype}; "
            f"keep it as {wider}"
        )
    clipped = 0
    if kind == "probabilities":
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise UserError(f"signal '{name}' is declared probabilities but leaves 0..1; is its kind logits or scores?")
        low, high = _OPEN_UNIT[dtype]
        clipped = int(np.count_nonzero((values < low) | (values > high)))
        values = np.clip(values.astype(np.float32, copy=False), np.float32(low), np.float32(high))
    if dtype == "bfloat16":
        return Packed(_to_bfloat16(values), dtype), clipped
    return Packed(np.ascontiguousarray(values, dtype), dtype), clipped


CHANGED = ("float16", "bfloat16", "int32")
"""The formats that `unpack` must compute; the others are as they lie."""


def plain_type(dtype: str) -> str:
    """The NumPy type of the numbers on disk."""
    return {"bfloat16": "uint16", "bool": "uint8"}.get(dtype, dtype)


def unpack(data: Array, dtype: str) -> Array:
    """Stored numbers as one computes with them: floats as float32, `.ids` (int32) as int64."""
    if dtype == "float16":
        return data.astype(np.float32)
    if dtype == "bfloat16":
        return (data.astype(np.uint32) << 16).view(np.float32)
    if dtype == "bool":
        return data.view(np.bool_)
    return data.astype(np.int64) if dtype == "int32" else data


def _to_bfloat16(values: Array) -> Array:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16  # half to even, as hardware does
    return rounded.astype(np.uint16)


def _finite(name: str, values: Array, kind: Kind, id: Array) -> None:
    wrong = ~np.isfinite(values)
    if kind in MASKED and wrong.any():
        wrong &= ~np.isneginf(values)
    if wrong.any():
        rows = np.flatnonzero(wrong.reshape(len(values), -1).any(1))
        found = "/".join(sorted({str(v) for v in values[wrong][:1000].tolist()}))
        first = ", ".join(str(i) for i in id[rows[:3]])
        mask = "" if kind in MASKED else " (-inf is a mask in logits and scores only)"
        raise UserError(
            f"signal '{name}' holds {found} in {len(rows)} rows, first in id {first}; "
            f"knowledge must be finite{mask}: mend the teacher or leave these rows out"
        )


def _ids(name: str, values: Array) -> Packed:
    if not np.issubdtype(values.dtype, np.integer):
        raise UserError(f"signal '{name}' is of type {values.dtype}; it must hold whole numbers")
    if values.size and not (values.min() >= -1 and values.max() < 2**31):
        raise UserError(f"signal '{name}' must count positions from 0 to 2^31 - 1, with -1 for none")
    return Packed(np.ascontiguousarray(values, np.int32), "int32")


def _tail(name: str, values: Array) -> Packed:
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # false for NaN too
        raise UserError(f"signal '{name}' is the mass outside the kept entries and must lie in 0..1")
    return Packed(np.ascontiguousarray(values, np.float32), "float32")


def _check_tails(knowledge: Knowledge, signals: Signals) -> None:
    tails = [name for name in signals if name.endswith(".tail")]
    if tails and signals.tail_temperatures != knowledge.temperatures:
        raise UserError(
            f"signal '{tails[0]}' tells the mass at temperatures {list(signals.tail_temperatures)}; "
            f"this store keeps {list(knowledge.temperatures)}: name the same under 'temperatures'"
        )


def shorten(
    values: Array, knowledge: Knowledge, id: Array, view: Array, *, of_probabilities: bool = False
) -> tuple[Array, Array, Array]:
    """The best entries of a long head, some drawn from the rest, and the mass outside both.

    The best come first, in falling order; of equal ones the lowest position is kept. Entries of -inf
    are never kept: a row with too few others has id -1 and value -inf in the places left over.

    Args:
        values: logits, scores or probabilities, (B, C), C > `knowledge.top`; no NaN, no +inf.
        knowledge: how many, and at which temperatures.
        id: int64, (B,).
        view: int64, (B,).
        of_probabilities: take the logarithm before softening.

    Returns:
        ids int32 (B, top + sampled), values (B, top + sampled), and tail float32 (B, temperatures): the
        softmax mass outside the kept entries, counted in float64 before any rounding.
    """
    top = knowledge.top or values.shape[1]
    ids = np.full((len(values), top + knowledge.sampled), -1, np.int32)
    kept = np.full(ids.shape, -np.inf, values.dtype)
    tail = np.zeros((len(values), len(knowledge.temperatures)), np.float32)
    seeds = mix(
        mix(mix(np.array([knowledge.seed], np.int64).astype(np.uint64)) ^ id.astype(np.uint64)) ^ view.astype(np.uint64)
    )
    step = max(1, _BLOCK // values.shape[1])
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        block = values[part].astype(np.float32) if values.dtype == np.float16 else values[part]
        ids[part, :top] = best = _best(block, top)
        if knowledge.sampled:
            ids[part, top:] = _drawn(block, best, seeds[part], knowledge.sampled)
        kept[part] = np.where(ids[part] < 0, -np.inf, np.take_along_axis(block, np.maximum(ids[part], 0), axis=1))
        for column, temperature in enumerate(knowledge.temperatures):
            tail[part, column] = _outside(block, ids[part], temperature, of_probabilities)
    return ids, kept, tail


def _best(values: Array, top: int) -> Array:
    best = np.argpartition(values, values.shape[1] - top, axis=1)[:, values.shape[1] - top :]
    chosen = np.take_along_axis(values, best, axis=1)
    least = chosen.min(axis=1, keepdims=True)
    # Which of several equal entries a partition takes depends on the processor; the lowest is a rule.
    for row in np.flatnonzero((values == least).sum(1) > (chosen == least).sum(1)):
        above = np.flatnonzero(values[row] > least[row])
        best[row] = np.concatenate([above, np.flatnonzero(values[row] == least[row])[: top - len(above)]])
    best.sort(axis=1)
    chosen = np.take_along_axis(values, best, axis=1)
    falling = np.argsort(-chosen, axis=1, kind="stable")
    best, chosen = np.take_along_axis(best, falling, axis=1), np.take_along_axis(chosen, falling, axis=1)
    return np.where(np.isneginf(chosen), -1, best)


def _outside(values: Array, kept: Array, temperature: float, of_probabilities: bool) -> Array:
    exact = values.astype(np.float64)
    if of_probabilities:
        with np.errstate(divide="ignore"):
            exact = np.log(exact)
    greatest = exact.max(axis=1, keepdims=True)
    mass = np.exp((exact - np.where(np.isneginf(greatest), 0.0, greatest)) / temperature)
    rows, places = np.nonzero(kept >= 0)
    inside = np.zeros_like(mass)
    inside[rows, kept[rows, places]] = mass[rows, kept[rows, places]]
    mass[rows, kept[rows, places]] = 0.0
    outside = mass.sum(1)
    whole = outside + inside.sum(1)
    return outside / np.where(whole > 0, whole, 1.0)


def _drawn(values: Array, best: Array, seeds: Array, count: int) -> Array:
    free = ~np.isneginf(values)
    rows, places = np.nonzero(best >= 0)
    free[rows, best[rows, places]] = False
    drawn = np.full((len(values), count), -1, np.int32)
    for row in range(len(values)):
        others = np.flatnonzero(free[row])
        chosen = others[_distinct(seeds[row : row + 1], count, len(others))]
        drawn[row, : len(chosen)] = chosen
    return drawn


def _distinct(seed: Array, count: int, size: int) -> Array:
    """Up to `count` distinct numbers below `size`, each subset and order equally likely."""
    if size <= 4 * count:
        return np.argsort(mix(seed ^ mix(np.arange(size, dtype=np.uint64))), kind="stable")[:count]
    draws = 2 * count
    while True:
        stream = mix(seed ^ mix(np.arange(draws, dtype=np.uint64))) % np.uint64(size)
        first = np.sort(np.unique(stream, return_index=True)[1])
        if len(first) >= count:
            return stream[first[:count]].astype(np.int64)
        draws *= 2


def facts(knowledge: Knowledge) -> dict[str, Any]:
    """The JSON that `Knowledge(**...)` takes back."""
    return {
        "dtype": knowledge.dtype,
        "top": knowledge.top,
        "sampled": knowledge.sampled,
        "temperatures": list(knowledge.temperatures),
        "seed": knowledge.seed,
    }
