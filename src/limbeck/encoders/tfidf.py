"""TF-IDF: how often a text has each term, the terms of many texts weighing less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limbeck.encoder import RESERVED
from limbeck.encoders._padding import padded
from limbeck.errors import UserError
from limbeck.types import Array, fingerprint

Analyzer = Literal["words", "characters"]

_WORD = re.compile(r"\b\w\w+\b")
_SPACES = re.compile(r"\s\s+")
# Scripts written without spaces: Thai to Khmer, kana, Chinese characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class Tfidf:
    """Ids of a text's terms and their weights.

    A weight is (1 + ln count) * idf, the weights of a text scaled to length 1. Terms and weights are
    those of scikit-learn's `TfidfVectorizer(sublinear_tf=True)` as long as a text has no more than
    `length` terms.

    Args:
        column: its name; the tensors are `terms` and `weights`.
        terms: the known terms, in the order of their ids (from 2; 0 is padding).
        idf: the terms' inverse document frequencies, (terms,).
        analyzer: terms of words, or of characters (for scripts without spaces).
        ngrams: the shortest and the longest term, in words or characters.
        length: terms kept a text, the heaviest.
    """

    kind = "tfidf"

    def __init__(
        self,
        column: str,
        terms: Sequence[str],
        idf: Array,
        *,
        analyzer: Analyzer = "words",
        ngrams: tuple[int, int] = (1, 2),
        length: int = 4096,
    ) -> None:
        if not 1 <= ngrams[0] <= ngrams[1]:
            raise UserError(f"ngrams is {ngrams}; wanted (shortest, longest) with 1 <= shortest <= longest")
        self.column = column
        self.terms = tuple(terms)
        self.idf = np.asarray(idf, np.float64)
        self.analyzer = analyzer
        self.ngrams = ngrams
        self.length = length
        self.padded = ("terms", "weights")
        self._position = {term: i for i, term in enumerate(self.terms)}

    @classmethod
    def fit(
        cls,
        column: str,
        texts: Sequence[str],
        *,
        analyzer: Analyzer | None = None,
        ngrams: tuple[int, int] = (1, 2),
        minimum: int = 1,
        features: int = 50_000,
    ) -> Tfidf:
        """Learn the terms and their frequencies.

        Args:
            column: its name.
            texts: training rows only.
            analyzer: none looks at the texts: characters where most letters are of a script without spaces.
            ngrams: the shortest and the longest term.
            minimum: texts a term must occur in.
            features: terms at most, those that occur most often; ties go by the alphabet.
        """
        empty = cls(column, (), np.zeros(0), analyzer=analyzer or analyzer_of(texts), ngrams=ngrams)
        position: dict[str, int] = {}
        found = [[position.setdefault(t, len(position)) for t in empty.terms_of(text)] for text in texts]
        _, term, count = _counted(found)
        documents = np.bincount(term, minlength=len(position))
        total = np.bincount(term, weights=count, minlength=len(position))
        names = np.array(list(position), object)
        alphabet = np.argsort(names, kind="stable")
        common = alphabet[documents[alphabet] >= minimum]
        kept = common[np.sort(np.argsort(-total[common], kind="stable")[:features])]
        idf = np.log((1 + len(texts)) / (1 + documents[kept])) + 1
        return cls(column, names[kept].tolist(), idf, analyzer=empty.analyzer, ngrams=ngrams)

    def terms_of(self, text: str) -> Iterable[str]:
        """Every occurrence of every term, known or not."""
        lowest, highest = self.ngrams
        if self.analyzer == "characters":
            whole = _SPACES.sub(" ", text.lower())
            return (whole[i : i + n] for n in range(lowest, highest + 1) for i in range(len(whole) - n + 1))
        words = _WORD.findall(text.lower())
        return chain.from_iterable(
            words if n == 1 else map(" ".join, zip(*(words[i:] for i in range(n)), strict=False))
            for n in range(lowest, highest + 1)
        )

    def __len__(self) -> int:
        """Rows an embedding table needs, the reserved ids included."""
        return len(self.terms) + RESERVED

    def __call__(self, column: Sequence[str]) -> dict[str, Array]:
        """`terms` int64 and `weights` float32, (B, L), padded on the right with 0."""
        known = self._position
        found = [[known[t] for t in self.terms_of(text) if t in known] for text in column]
        row, term, count = _counted(found)
        weight = (1 + np.log(count)) * self.idf[term]
        norm = np.sqrt(np.bincount(row, weights=weight**2, minlength=len(column)))
        weight = weight / norm[row]
        counts = np.bincount(row, minlength=len(column)).astype(np.int64)
        if counts.max(initial=0) > self.length:
            kept = _heaviest(row, weight, counts, self.length)
            term, weight, counts = term[kept], weight[kept], np.minimum(counts, self.length)
        return {"terms": padded(term + RESERVED, counts), "weights": padded(weight.astype(np.float32), counts)}

    @property
    def fingerprint(self) -> str:
        """Of the terms, their frequencies and the cut."""
        how = {"analyzer": self.analyzer, "ngrams": self.ngrams, "length": self.length}
        return fingerprint("tfidf", 1, column=self.column, terms=self.terms, idf=self.idf.tolist(), **how)

    def save(self, folder: Path) -> dict[str, Any]:
        """One JSON file of terms and frequencies."""
        name = f"{self.column}.tfidf.json"
        said = {"terms": self.terms, "idf": self.idf.tolist()}
        (folder / name).write_text(json.dumps(said), encoding="utf-8")
        how = {"analyzer": self.analyzer, "ngrams": self.ngrams, "length": self.length}
        return {"column": self.column, "file": name, **how}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Tfidf:
        """Read what `save` wrote."""
        said = json.loads((folder / settings["file"]).read_text(encoding="utf-8"))
        how = {"analyzer": settings["analyzer"], "length": settings["length"]}
        shortest, longest = settings["ngrams"]
        return cls(settings["column"], said["terms"], said["idf"], ngrams=(shortest, longest), **how)


def analyzer_of(texts: Sequence[str]) -> Analyzer:
    """Characters where most of the letters are of a script without spaces, else words.

    >>> analyzer_of(["很好"]), analyzer_of(["very good"])
    ('characters', 'words')
    """
    sample = "".join(texts[:: max(1, len(texts) // 1000)])
    letters = sum(map(str.isalpha, sample))
    return "characters" if 2 * len(_UNSPACED.findall(sample)) > letters else "words"


def _counted(found: Sequence[Sequence[int]]) -> tuple[Array, Array, Array]:
    """Distinct (row, term) pairs in order, int64, and how often each occurs."""
    counts = np.fromiter(map(len, found), np.int64, len(found))
    terms = np.fromiter(chain.from_iterable(found), np.int64, int(counts.sum()))
    width = int(terms.max(initial=0)) + 1
    pairs, times = np.unique(np.repeat(np.arange(len(found)), counts) * width + terms, return_counts=True)
    return pairs // width, pairs % width, times


def _heaviest(row: Array, weight: Array, counts: Array, length: int) -> Array:
    """Positions of each row's `length` heaviest terms, in their old order."""
    order = np.lexsort((np.arange(len(row)), -weight, row))
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < length])
