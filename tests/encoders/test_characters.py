from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.encoder import Encoder
from limbeck.encoders.characters import Characters
from limbeck.errors import UserError

TEXTS = ["abba", "bab 好🙂", "好🙂 z"]


def test_ids_equal_a_naive_lookup() -> None:
    characters = Characters.fit("text", TEXTS, length=6)
    texts = ["ab好", "", "zZ🙂🙂abab", "a\x00"]
    naive = [[characters.known.index(c) + 2 if c in characters.known else 1 for c in t.lower()[:6]] for t in texts]
    ids = characters(texts)["ids"]
    assert ids.dtype == np.int64
    assert ids.shape == (4, 6)
    assert [row[row > 0].tolist() for row in ids] == naive


def test_the_commonest_characters_are_known_and_those_seen_once_are_not() -> None:
    assert set(Characters.fit("text", TEXTS).known) == set("ab 好🙂")
    assert Characters.fit("text", TEXTS, vocabulary=3).known == "b"
    assert len(Characters.fit("text", TEXTS, vocabulary=3)) == 3


def test_composed_and_decomposed_accents_are_one_character() -> None:
    characters = Characters.fit("text", ["café café"])
    assert characters(["cafe\u0301"])["ids"].tolist() == characters(["CAF\u00c9"])["ids"].tolist()


@given(st.lists(st.text(), max_size=4))
def test_any_text_gives_ids_inside_the_vocabulary(texts: list[str]) -> None:
    characters = Characters.fit("text", TEXTS, length=5)
    ids = characters(texts)["ids"]
    assert ids.shape[0] == len(texts)
    assert 1 <= ids.shape[1] <= 5
    assert ((ids >= 0) & (ids < len(characters))).all()


def test_half_surrogates_and_long_texts_are_read() -> None:
    characters = Characters.fit("text", [*TEXTS, "\ud800\ud800"], length=7)
    assert characters(["\ud800", "ab" * 50_000])["ids"].shape == (2, 7)


def test_without_a_known_character_all_are_unknown() -> None:
    assert Characters.fit("text", ["abc"])(["ab"])["ids"].tolist() == [[1, 1]]


def test_saved_and_loaded_characters_answer_alike(tmp_path: Path) -> None:
    characters = Characters.fit("text", TEXTS, length=4, lowercase=False)
    Encoder([characters]).save(tmp_path)
    loaded = Encoder.load(tmp_path).encodings[0]
    assert loaded.fingerprint == characters.fingerprint
    assert loaded(["Ab好🙂"])["ids"].tolist() == characters(["Ab好🙂"])["ids"].tolist()


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="vocabulary is 2"):
        Characters.fit("text", TEXTS, vocabulary=2)
    with pytest.raises(UserError, match="length is 0"):
        Characters("text", "ab", length=0)
