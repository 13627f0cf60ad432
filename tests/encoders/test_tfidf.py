from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from limbeck.encoder import Encoder
from limbeck.encoders.tfidf import Tfidf, analyzer_of
from limbeck.errors import UserError

TEXTS = [
    "The coffee is good, REALLY good!",
    "bad tea; the tea was bad",
    "",
    "a",
    "good  tea\n\n\tgood coffee 🙂 naïve café",
    "质量很好,很好。 质量不错",
    "nul\x00char x_y 3.14",
    "good " * 2000 + "tea",
]
NEW = ["Good tea was never so GOOD", "unheard-of words", "", "很好 的 质量", "tea  tea tea"]


def dense(encoding: Tfidf, texts: Sequence[str]) -> Any:
    said = encoding(texts)
    matrix = np.zeros((len(texts), len(encoding)))
    rows = np.repeat(np.arange(len(texts)), said["terms"].shape[1])
    np.add.at(matrix, (rows, said["terms"].ravel()), said["weights"].ravel())
    return matrix[:, 2:]


@pytest.mark.parametrize(("analyzer", "theirs"), [("words", "word"), ("characters", "char")])
@pytest.mark.parametrize("ngrams", [(1, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("minimum", [1, 2])
def test_equal_to_scikit_learn(analyzer: Any, theirs: str, ngrams: tuple[int, int], minimum: int) -> None:
    peer = TfidfVectorizer(analyzer=theirs, ngram_range=ngrams, min_df=minimum, sublinear_tf=True).fit(TEXTS)
    ours = Tfidf.fit("text", TEXTS, analyzer=analyzer, ngrams=ngrams, minimum=minimum)
    assert list(ours.terms) == peer.get_feature_names_out().tolist()
    np.testing.assert_allclose(dense(ours, TEXTS + NEW), peer.transform(TEXTS + NEW).toarray(), atol=1e-6)


@given(st.lists(st.text(alphabet="abc é.\n好", max_size=30), min_size=2, max_size=6), st.sampled_from([(1, 1), (1, 2)]))
@settings(max_examples=50, deadline=None)
def test_equal_to_scikit_learn_on_any_text(texts: list[str], ngrams: tuple[int, int]) -> None:
    texts = [*texts, "ab ab ca"]
    peer = TfidfVectorizer(ngram_range=ngrams, sublinear_tf=True).fit(texts)
    ours = Tfidf.fit("text", texts, analyzer="words", ngrams=ngrams)
    np.testing.assert_allclose(dense(ours, texts), peer.transform(texts).toarray(), atol=1e-6)


def test_a_limit_keeps_the_terms_that_occur_most_often() -> None:
    ours = Tfidf.fit("text", ["aa aa bb cc", "bb aa dd"], ngrams=(1, 1), features=2)
    assert ours.terms == ("aa", "bb")
    assert Tfidf.fit("text", ["dd cc bb aa"], ngrams=(1, 1), features=2).terms == ("aa", "bb")


def test_a_row_without_known_terms_is_padding_alone() -> None:
    said = Tfidf.fit("text", TEXTS)(["", "unheard"])
    assert said["terms"].tolist() == [[0], [0]]
    assert said["weights"].tolist() == [[0.0], [0.0]]
    assert Tfidf.fit("text", TEXTS)([])["terms"].shape == (0, 1)


def test_a_text_of_too_many_terms_keeps_its_heaviest() -> None:
    whole = Tfidf.fit("text", TEXTS, ngrams=(1, 1))
    short = Tfidf("text", whole.terms, whole.idf, ngrams=(1, 1), length=2)
    full, cut = whole([TEXTS[0], "good"]), short([TEXTS[0], "good"])
    order = np.argsort(-full["weights"][0], kind="stable")[:2]
    assert cut["terms"][0].tolist() == full["terms"][0][np.sort(order)].tolist()
    assert cut["weights"][0].tolist() == full["weights"][0][np.sort(order)].tolist()
    assert cut["terms"][1].tolist() == [full["terms"][1, 0], 0]


def test_scripts_without_spaces_are_read_by_characters() -> None:
    assert analyzer_of(["质量很好", "ok 不错的东西"]) == "characters"
    assert analyzer_of(["ของดีมาก"]) == "characters"
    assert analyzer_of(["fine 好"]) == "words"
    assert analyzer_of([]) == "words"
    assert Tfidf.fit("text", ["质量很好", "质量不好"]).analyzer == "characters"


def test_saved_and_loaded_weights_are_equal_to_the_bit(tmp_path: Path) -> None:
    ours = Tfidf.fit("text", TEXTS, ngrams=(1, 2))
    Encoder([ours]).save(tmp_path)
    loaded = Encoder.load(tmp_path).encodings[0]
    assert loaded.fingerprint == ours.fingerprint
    for name, value in ours(TEXTS + NEW).items():
        assert np.array_equal(loaded(TEXTS + NEW)[name], value)


def test_types_and_mistakes() -> None:
    said = Tfidf.fit("text", TEXTS)(TEXTS)
    assert said["terms"].dtype == np.int64
    assert said["weights"].dtype == np.float32
    with pytest.raises(UserError, match="ngrams is"):
        Tfidf.fit("text", TEXTS, ngrams=(2, 1))
