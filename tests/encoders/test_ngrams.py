from pathlib import Path

import numpy as np
import pytest

from limbeck.encoder import Encoder
from limbeck.encoders.characters import Characters
from limbeck.encoders.ngrams import Ngrams
from limbeck.encoders.tokens import Tokens
from limbeck.errors import UserError

TEXTS = ["not good at all", "good not bad at all", "all good", "bad"] * 2


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens.train("text", TEXTS, algorithm="words", length=6)


def naive(units: list[int], order: int, buckets: int, first: int) -> list[int]:
    """The hash of the encoding, one n-gram at a time, in Python's own integers."""
    full = 2**64 - 1
    found = []
    for start in range(len(units)):
        gram = units[start : start + order]
        if len(gram) < order:
            found.append(0)
            continue
        code = order
        for unit in gram:
            code = ((code ^ unit) * 0x9E3779B97F4A7C15) & full
            code ^= code >> 29
        code = (code * 0xBF58476D1CE4E5B9) & full
        code ^= code >> 32
        found.append(code % buckets + first)
    return found


def test_units_and_their_ngrams_equal_a_naive_hash(tokens: Tokens) -> None:
    ngrams = Ngrams(tokens, orders=(2, 3), buckets=50)
    for text in ("not good at all", "good", "", "bad bad bad bad bad bad bad"):
        units = [int(i) for i in tokens([text])["ids"][0] if i]
        wanted = [units, naive(units, 2, 50, len(tokens)), naive(units, 3, 50, len(tokens))]
        found = ngrams([text])["ids"][0].reshape(-1, 3).T
        assert [row[: len(units)].tolist() for row in found] == wanted
        assert not found[:, len(units) :].any()


def test_an_ngram_has_one_bucket_wherever_it_stands(tokens: Tokens) -> None:
    ngrams = Ngrams(tokens, buckets=10_000)
    first, second = ngrams(["not good at all", "bad not good"])["ids"].reshape(2, -1, 2)[:, :, 1]
    assert first[0] == second[1] != 0
    assert len(np.unique(first[first > 0])) == 3


def test_ids_stay_inside_the_table(tokens: Tokens) -> None:
    ngrams = Ngrams(tokens, orders=(2, 5), buckets=3)
    ids = ngrams(TEXTS)["ids"]
    assert ids.max() < len(ngrams) == len(tokens) + 3
    assert ids.min() == 0


def test_no_rows_and_a_text_shorter_than_the_ngram(tokens: Tokens) -> None:
    ngrams = Ngrams(tokens, orders=(4,))
    assert ngrams([])["ids"].shape == (0, 2)
    assert ngrams([""])["ids"].tolist() == [[0, 0]]


def test_ngrams_of_characters_can_be_saved_and_loaded(tmp_path: Path) -> None:
    ngrams = Ngrams(Characters.fit("text", TEXTS, length=9), orders=(2, 3), buckets=100)
    Encoder([ngrams]).save(tmp_path)
    loaded = Encoder.load(tmp_path).encodings[0]
    assert loaded.fingerprint == ngrams.fingerprint
    assert loaded(TEXTS)["ids"].tolist() == ngrams(TEXTS)["ids"].tolist()


def test_mistakes_are_told(tokens: Tokens) -> None:
    with pytest.raises(UserError, match="buckets is 0"):
        Ngrams(tokens, buckets=0)
    with pytest.raises(UserError, match="n-grams have 2 units"):
        Ngrams(tokens, orders=(1, 2))
