"""Knowledge that is brought: raw columns in the shapes others take, and others' numbers as the main signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.encoder import as_text
from limbeck.errors import UserError, counted, few
from limbeck.types import Array, Axis, Batch, Kind, Lists, Signals

if TYPE_CHECKING:
    from limbeck.task import Problem

CLIP = 1e-6
"""Probabilities stay within [CLIP, 1 - CLIP] before their logarithm: a margin of at most 13.8 nats."""

SUM_TOLERANCE = 1e-2
"""How far a row of probabilities may be from adding to 1; services round to a few digits."""

KINDS_OF: Mapping[str, Kind] = {"label": "logits", "step": "values", "value": "values"}
"""Axis -> the kind of the main signal along it, which is also its name; `scores` along others."""

TEXT = "text"
"""The data type of inputs that take strings, beside NumPy's names of numbers."""


def need_columns(problem: Problem, columns: Sequence[str], who: str) -> None:
    """Every column must be among the rows' own.

    Raises:
        UserError: some are not; names them all.
    """
    missing = [name for name in columns if name not in problem.train.names]
    if missing:
        said = ", ".join(map(repr, missing))
        raise UserError(f"{who}: the rows have no column {said}; there are: {', '.join(problem.train.names)}")


@dataclass(frozen=True)
class Slot:
    """An input that someone else's graph or service has.

    Args:
        name: as they call it.
        dtype: NumPy's name of what it takes, or `text`; none where no column fills it.
        shape: rows first; none where any length will do.
    """

    name: str
    dtype: str | None
    shape: tuple[int | None, ...]


def plan_of(slots: Sequence[Slot], inputs: Mapping[str, str], who: str) -> dict[str, str]:
    """Input -> the column that fills it; without `inputs`, the one of its name.

    Raises:
        UserError: an input that no column fills, or other inputs than there are.
    """
    names = [slot.name for slot in slots]
    strange = [slot.name for slot in slots if slot.dtype is None]
    if strange:
        raise UserError(f"{who}: the inputs {few(strange)} are of types that no column fills")
    plan = dict(inputs) or {name: name for name in names}
    if set(plan) != set(names):
        raise UserError(f"{who}: its inputs are {few(names)}, 'inputs' names {few(list(plan))}")
    return {name: plan[name] for name in names}


Fill = Callable[[Sequence[bytes | None], str, Sequence[int | None], str], Array]
"""Encoded pictures, an input's data type and shape, and where, to the input's numbers."""


def filled(
    batch: Batch, slots: Sequence[Slot], plan: Mapping[str, str], who: str, picture: Fill | None = None
) -> dict[str, Array]:
    """The columns of a plan as their inputs take them, first axis the row.

    Args:
        batch: of raw columns.
        slots: the inputs.
        plan: input -> column.
        who: what takes them, for messages.
        picture: fills an input from a column of encoded pictures; none where it takes no pictures.

    Raises:
        UserError: a column does not fit its input.
    """
    fed = {}
    for slot in slots:
        where = f"{who}: column '{plan[slot.name]}' for input '{slot.name}'"
        column = batch[plan[slot.name]]
        fill = picture if picture is not None and _encoded(column) else tensor
        fed[slot.name] = fill(column, str(slot.dtype), slot.shape, where)
    return fed


def _encoded(column: Any) -> bool:
    """Whether a raw column holds encoded pictures: bytes, some of which may be missing."""
    return isinstance(column, list) and isinstance(next((one for one in column if one is not None), None), bytes)


@dataclass(frozen=True)
class Reading:
    """Reads a source's numbers as the main signal on the task's axis.

    Probabilities become logits, because every loss softens logits. Two classes may be told by one
    number: the probability, or the margin, of the second.

    Args:
        who: what speaks, for messages.
        axis: what the positions of the main signal mean.
        signal: name of the signal; none: `logits` on labels, `scores` elsewhere.
        kind: what the numbers are; none: as the signal's default name, unless they look like
            probabilities, which is then an error.
        classes: the axis' value at each position of the source; empty: in the axis' order.
        clip: probabilities stay within [clip, 1 - clip]; how many were moved is noted.
    """

    who: str
    axis: Axis
    signal: str | None = None
    kind: Kind | None = None
    classes: tuple[str, ...] = ()
    clip: float = CLIP

    def __post_init__(self) -> None:
        if not 0 < self.clip < 0.5:
            raise UserError(f"{self.who}: clip is {self.clip}; it must be above 0 and below 0.5")
        if self.classes and (set(self.classes) != set(self.axis.values) or len(self.classes) != len(self.axis)):
            raise UserError(f"{self.who}: {self._differing()}")

    def _differing(self) -> str:
        extra = [c for c in dict.fromkeys(self.classes) if c not in self.axis.values]
        lacking = [c for c in self.axis.values if c not in self.classes]
        told = [f"unknown to the task: {few(extra)}"] if extra else []
        told += [f"missing: {few(lacking)}"] if lacking else []
        return f"its {self.axis.name}s are not the task's {len(self.axis)}; {'; '.join(told) or 'one is named twice'}"

    @property
    def name(self) -> str:
        """The signal's name."""
        return self.signal or self._default

    @property
    def said(self) -> Kind:
        """The signal's kind."""
        kind = self.kind or self._default
        return "logits" if kind == "probabilities" else kind

    @property
    def _default(self) -> Kind:
        return KINDS_OF.get(self.axis.name, "scores")

    @property
    def keys(self) -> dict[str, Any]:
        """What of it goes into a fingerprint."""
        said = {"signal": self.name, "kind": self.kind, "classes": self.classes, "clip": self.clip}
        return {**said, "axis": self.axis.fingerprint}

    def __call__(self, raw: Array) -> Signals:
        """The main signal of numbers (B, C), or (B,) where there are two classes.

        Raises:
            UserError: another number of classes, NaN or infinity, or no probabilities where they are promised.
        """
        numbers = np.asarray(raw, np.float64)
        numbers = numbers[:, None] if numbers.ndim == 1 else numbers
        if numbers.ndim != 2:
            raise UserError(f"{self.who}: the answer has {numbers.ndim} axes, wanted rows x {self.axis.name}s")
        if numbers.shape[1] == 1 and len(self.axis) == 2:
            numbers = self._both(numbers)
        if numbers.shape[1] != len(self.axis):
            wanted = f"not {len(self.axis)}, the {self.axis.name}s of the task"
            raise UserError(f"{self.who}: axis 1 of the answer is {numbers.shape[1]}, {wanted}")
        self._check(numbers)
        numbers, notes = self._logits(numbers) if self.kind == "probabilities" else (numbers, ())
        if self.classes:
            numbers = numbers[:, [self.classes.index(value) for value in self.axis.values]]
        return Signals({self.name: numbers.astype(np.float32)}, {self.name: self.said}, notes=notes)

    def asked(
        self, ask: Callable[[dict[str, Array]], Array], fed: Mapping[str, Array], rows: int, size: int
    ) -> Signals:
        """The main signal of rows that are asked about in pieces.

        Args:
            ask: inputs of some rows to their numbers.
            fed: inputs of all rows, first axis the row.
            rows: how many there are.
            size: of a piece, at most.

        Raises:
            UserError: a piece is not answered row by row, or as `__call__` says.
        """
        # No rows: many graphs cannot be asked about nothing, and the axis knows the width.
        pieces = [np.zeros((0, len(self.axis)))] if rows == 0 else []
        for at in range(0, rows, size):
            said = np.asarray(ask({name: values[at : at + size] for name, values in fed.items()}))
            wanted = min(size, rows - at)
            if said.shape[:1] != (wanted,) or (pieces and said.shape[1:] != pieces[0].shape[1:]):
                raise UserError(f"{self.who} answered {said.shape} numbers to {counted(wanted, 'row')}")
            pieces.append(said)
        return self(np.concatenate(pieces))

    def _both(self, one: Array) -> Array:
        if self.kind == "probabilities":
            return np.hstack([1 - one, one])
        if self.kind == "logits":
            return np.hstack([np.zeros_like(one), one])
        raise UserError(f"{self.who}: one number a row for two classes; set kind to 'probabilities' or 'logits'")

    def _check(self, numbers: Array) -> None:
        allowed = np.isneginf(numbers) if self.said == "scores" else np.zeros_like(numbers, bool)
        with np.errstate(over="ignore"):
            wrong = ~(np.isfinite(numbers.astype(np.float32)) | allowed)
        if wrong.any():
            raise UserError(f"{self.who}: {int(wrong.sum())} of {numbers.size} numbers are NaN or infinite")
        if self.kind is None and self.said == "logits" and len(numbers) and _adds_to_one(numbers, 1e-5):
            raise UserError(f"{self.who}: these look like probabilities; set kind to 'probabilities' (or to 'logits')")

    def _logits(self, chances: Array) -> tuple[Array, tuple[str, ...]]:
        if not _adds_to_one(chances, SUM_TOLERANCE):
            raise UserError(f"{self.who}: promises probabilities, but a row is not in [0, 1] or does not add to 1")
        clipped = np.clip(chances, self.clip, 1 - self.clip)
        moved = int((clipped != chances).sum())
        if not moved:
            return np.log(clipped), ()
        within = f"[{self.clip:g}, 1 - {self.clip:g}]"
        return np.log(clipped), (f"{self.who}: {moved} of {chances.size} probabilities were clipped to {within}",)


def _adds_to_one(numbers: Array, tolerance: float) -> bool:
    within = (numbers >= -1e-9).all() and (numbers <= 1 + 1e-6).all()
    return bool(within and (np.abs(numbers.sum(1) - 1) <= tolerance).all())


def matrix(batch: Batch, columns: Sequence[str], who: str) -> Array:
    """Columns of numbers side by side, float64 (B, F).

    Raises:
        UserError: a column holds text or lists.
    """
    return np.stack([_numbers(batch[name], f"{who}: column '{name}'") for name in columns], 1)


def _numbers(column: Any, where: str) -> Array:
    if isinstance(column, Lists):
        raise UserError(f"{where} holds a list a row; one number a row was wanted")
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "biuf":
        raise UserError(f"{where} holds text; numbers were wanted")
    return column.astype(np.float64)


def tensor(column: Any, dtype: str, shape: Sequence[int | None], where: str) -> Array:
    """A raw column as an input of a graph or service.

    Args:
        column: B numbers, B texts, or `Lists`, which are padded on the right with 0 or "".
        dtype: NumPy's name, or `text`.
        shape: the input's, rows first; none where any length will do.
        where: the column and the input, for messages.

    Returns:
        (B,), (B, 1), (B, L) or (B, *shape[1:]); text as an array of str objects.

    Raises:
        UserError: the column does not fit the type or the shape.
    """
    if not isinstance(column, Lists):
        if math.prod(n or 1 for n in shape[1:]) != 1:
            raise UserError(f"{where}: one value a row does not fill the shape {_spell(shape)}")
        return _typed(column, dtype, where).reshape(len(column), *[1] * (len(shape) - 1))
    if len(shape) < 2:
        raise UserError(f"{where}: a list a row does not fit an input of one value a row")
    counts = np.diff(column.offsets)
    longest = int(counts.max(initial=0))
    fixed = [n for n in shape[1:] if n is not None]
    if len(fixed) < len(shape) - 1 and len(shape) > 2:
        raise UserError(f"{where}: lists cannot be laid out as {_spell(shape)}; only its first axis may be open")
    width = math.prod(fixed) if fixed else max(1, longest)
    if longest > width or (len(shape) > 2 and (counts != width).any()):
        raise UserError(f"{where}: a row has {counted(longest, 'value')}, the shape {_spell(shape)} takes {width}")
    padded: Array = (
        np.full((len(column), width), "", object) if dtype == TEXT else np.zeros((len(column), width), dtype)
    )
    padded[np.arange(width) < counts[:, None]] = _typed(column.values, dtype, where)
    return padded.reshape(len(column), *shape[1:]) if len(shape) > 2 else padded


def _typed(values: Any, dtype: str, where: str) -> Array:
    if dtype == TEXT:
        return np.array(values if isinstance(values, list) else as_text(values).to_pylist(), object)
    if len(values) == 0:
        return np.zeros(0, dtype)
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "biuf":
        raise UserError(f"{where}: the column holds text, the input takes {dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = numbers.astype(dtype)
    if cast.dtype.kind in "biu" and not np.array_equal(cast, numbers):
        raise UserError(f"{where}: the column holds numbers that {dtype} cannot")
    return cast


def _spell(shape: Sequence[int | None]) -> str:
    return "x".join("?" if n is None else str(n) for n in shape)
