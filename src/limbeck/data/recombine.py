"""New texts without labels, made by shuffling the sentences of training texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck.errors import UserError
from limbeck.types import Array, Rows, fingerprint

MARK = "\x1f"
SENTENCE = r"([.!?]+[\"')\]]*\s+|[。！？；…]+[”’）》」』]*\s*|\n+|(?:<br\s*/?>\s*)+)"
"""Where a sentence ends: Western marks need a space after them (as "3.5" does not), Chinese ones don't."""


@dataclass(frozen=True)
class Recombine:
    """Rows for a teacher to label where no unlabelled text is at hand.

    Among mixtures, and within each label, every sentence is used once before any is used again.

    Args:
        count: how many rows to make.
        seed: equal seeds make equal rows.
        sentences: sentences a text; without it, as many as a training text drawn at random has.
        same_label: the share of texts whose sentences all come from texts of one label (each label as
            often), for mixtures of praise and complaint alone would show a student only the middle.
            Without a label in classes, every text is a mixture.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    count: int
    seed: int = 0
    sentences: int | None = None
    same_label: float = 0.8

    def __post_init__(self) -> None:
        if self.count < 1 or (self.sentences is not None and self.sentences < 1):
            raise UserError(f"recombine: count is {self.count}, sentences {self.sentences}; at least 1 was wanted")
        if not 0 <= self.same_label <= 1:
            raise UserError(f"recombine: same_label is {self.same_label}; a share from 0 to 1 was wanted")

    def make(self, rows: Rows) -> Rows:
        """Rows with the same columns and roles, of which only the text is filled.

        Args:
            rows: training rows, with the role `text`, and `label` for texts of one label.

        Raises:
            UserError: there is no text in them.
        """
        name, schema = rows.role("text"), rows.table.schema
        pool, owner = _sentences(rows.table.column(name))
        lengths = np.bincount(owner)
        draw = np.random.Generator(np.random.PCG64(self.seed))
        fixed = self.sentences
        sizes = np.full(self.count, fixed) if fixed else draw.choice(lengths[lengths > 0], self.count)
        slots = self._drawn(_labels(rows)[owner], sizes, draw)
        columns = {field.name: pa.nulls(self.count, field.type) for field in schema}
        columns[name] = _joined(pool.take(pa.array(slots)), sizes).cast(schema.field(name).type)
        source = fingerprint("recombine", 1, rows=rows.fingerprint, settings=asdict(self))
        return Rows(pa.table(columns), np.arange(self.count, dtype=np.int64), source, rows.roles)

    def _drawn(self, label: Array, sizes: Array, draw: np.random.Generator) -> Array:
        """Which sentence of the pool stands in each place of the new texts, end to end."""
        labels = np.unique(label)
        one = draw.random(self.count) < self.same_label
        wanted = np.where(one & (len(labels) > 1), draw.choice(labels, self.count), -1).repeat(sizes)
        slots = np.empty(len(wanted), np.int64)
        for kind in np.unique(wanted):
            places = np.flatnonzero(wanted == kind)
            among = np.arange(len(label)) if kind < 0 else np.flatnonzero(label == kind)
            rounds = -(-len(places) // len(among))
            slots[places] = np.concatenate([draw.permutation(among) for _ in range(rounds)])[: len(places)]
        return slots


def _labels(rows: Rows) -> Array:
    """A number for each row's label, or 0 where labels are not classes: int64, (N,)."""
    name = rows.roles.get("label")
    kind = rows.table.schema.field(name).type if isinstance(name, str) else None
    if kind is None or pa.types.is_floating(kind) or pa.types.is_nested(kind):
        return np.zeros(len(rows), np.int64)
    return np.unique(np.asarray(rows.column(str(name))), return_inverse=True)[1].astype(np.int64)


def _sentences(texts: pa.ChunkedArray) -> tuple[pa.Array, Array]:
    """All sentences, and the position of the text each is from."""
    whole = pc.fill_null(pa.concat_arrays(texts.cast(pa.large_string()).chunks), "")
    parted = pc.split_pattern(pc.replace_substring_regex(whole, SENTENCE, rf"\1{MARK}"), MARK)
    sentences = pc.utf8_trim_whitespace(pc.list_flatten(parted))
    kept = pc.not_equal(sentences, "")
    pool = sentences.filter(kept)
    if not len(pool):
        raise UserError("recombine: these rows have no text to make new texts of")
    return pool, pc.list_parent_indices(parted).filter(kept).to_numpy()


def _joined(sentences: pa.Array, sizes: Array) -> pa.Array:
    """Consecutive sentences as texts of these sizes."""
    space, nothing = (pa.scalar(text, pa.large_string()) for text in (" ", ""))
    western = pc.match_substring_regex(sentences, r"[\x21-\x7e]$")  # Chinese sentences take no space between them
    spaced = pc.binary_join_element_wise(sentences, pc.if_else(western, space, nothing), nothing)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int64())
    return pc.utf8_rtrim_whitespace(pc.binary_join(pa.LargeListArray.from_arrays(offsets, spaced), nothing))
