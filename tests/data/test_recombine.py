from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data.recombine import Recombine
from limbeck.errors import UserError
from limbeck.types import Rows

ENGLISH = ["Good tea. I pay 3.5 a box! Again?", "Bad.", "No mark at all", "One... two.\nThree.<br />Four"]
PARTS = ["Good tea.", "I pay 3.5 a box!", "Again?", "Bad.", "No mark at all", "One...", "two.", "Three.<br />", "Four"]


def _rows(texts):
    table = pa.table({"text": texts, "label": ["a"] * len(texts), "n": list(range(len(texts)))})
    return Rows(table, np.arange(len(texts)), "source", {"text": "text", "label": "label"})


def test_sentences_are_the_ones_a_reader_would_see():
    made = Recombine(len(PARTS), sentences=1).make(_rows(ENGLISH))
    assert sorted(made.column("text")) == sorted(PARTS)


def test_chinese_sentences_join_without_a_space_and_western_ones_with_one():
    made = Recombine(1, sentences=4).make(_rows(["很好。便宜！", "“不好？”再见"]))
    (text,) = made.column("text")
    assert " " not in text
    assert Counter(text) == Counter("很好。便宜！“不好？”再见")
    (text,) = Recombine(1, sentences=3).make(_rows(["A b. C d. E f."])).column("text")
    assert sorted(text.split(". ")) != [text]
    assert Counter(text.replace(" ", "")) == Counter("Ab.Cd.Ef.")
    assert text.count(". ") == 2


def test_only_the_text_is_filled_and_everything_else_is_kept():
    rows = _rows(ENGLISH)
    made = Recombine(5).make(rows)
    assert made.table.schema.equals(rows.table.schema)
    assert made.table.column("label").null_count == made.table.column("n").null_count == 5
    assert made.roles == rows.roles
    assert made.id.tolist() == [0, 1, 2, 3, 4]
    assert made.source != rows.source


def test_equal_seeds_make_equal_rows_and_other_seeds_others():
    rows = _rows(ENGLISH)
    one, again, other = (Recombine(20, seed=s).make(rows) for s in (1, 1, 2))
    assert one.table.equals(again.table)
    assert one.fingerprint == again.fingerprint
    assert other.column("text") != one.column("text")
    assert other.source != one.source
    assert Recombine(20, seed=1).make(_rows(ENGLISH[:3])).source != one.source


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 30), st.integers(0, 9))
def test_lengths_are_those_of_real_texts_and_no_sentence_is_used_twice_too_often(sizes, count, seed):
    names = iter(range(10_000))
    texts = [" ".join(f"s{next(names)}." for _ in range(size)) for size in sizes]
    made = [text.split(" ") for text in Recombine(count, seed=seed, same_label=0).make(_rows(texts)).column("text")]
    assert {len(text) for text in made} <= set(sizes)
    used = Counter(s for text in made for s in text)
    assert set(used) <= {s for text in texts for s in text.split(" ")}
    often = [used[s] for text in texts for s in text.split(" ")]
    assert max(often) - min(often) <= 1


@given(st.integers(1, 40), st.integers(0, 99))
def test_texts_of_one_label_hold_no_sentence_of_another(count, seed):
    rows = _rows(["a1. a2. a3.", "b1. b2.", "a4. a5."])
    rows = replace(rows, table=rows.table.set_column(1, "label", pa.array(["a", "b", "a"])))
    made = Recombine(count, seed=seed, sentences=3, same_label=1).make(rows).column("text")
    assert all(len({sentence[0] for sentence in text.split(" ")}) == 1 for text in made)


def test_labels_come_equally_often_and_the_rest_are_mixtures():
    rows = _rows(["a1. a2. a3."] * 9 + ["b1. b2."])
    rows = replace(rows, table=rows.table.set_column(1, "label", pa.array(["a"] * 9 + ["b"])))
    made = Recombine(2000, sentences=2, same_label=0.5).make(rows).column("text")
    of = Counter("".join(sorted({s[0] for s in text.split(" ")})) for text in made)
    # of the mixtures' pairs, 1 - 2 * (27/29)(2/28) = .867 are two a's, next to none two b's
    assert abs(of["b"] / 2000 - 0.25) < 0.04
    assert abs(of["a"] / 2000 - (0.25 + 0.5 * 0.867)) < 0.05
    assert of["ab"] > 50


def test_measured_labels_leave_mixtures():
    rows = _rows(["a1. a2.", "b1. b2."])
    rows = replace(rows, table=rows.table.set_column(1, "label", pa.array([0.5, 1.5])))
    made = Recombine(50, sentences=4, same_label=1).make(rows).column("text")
    assert all({s[0] for s in text.split(" ")} == {"a", "b"} for text in made)


def test_rows_without_text_and_impossible_settings_are_refused():
    with pytest.raises(UserError, match="no text"):
        Recombine(3).make(_rows(["", "  "]))
    with pytest.raises(UserError, match="count is 0"):
        Recombine(0)
    with pytest.raises(UserError, match="sentences 0"):
        Recombine(1, sentences=0)
    with pytest.raises(UserError, match=r"same_label is 1\.5"):
        Recombine(1, same_label=1.5)
