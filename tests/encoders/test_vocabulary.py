import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limbeck.encoders.vocabulary import Vocabulary

ODD = ["", "a", "A", "ä", "好", "a\nb", '"', "a" * 999, "🙂"]


@given(st.lists(st.sampled_from(ODD)), st.lists(st.sampled_from([*ODD, "never"])))
def test_known_values_count_from_2_in_sorted_order_and_others_are_1(known: list[str], asked: list[str]) -> None:
    vocabulary = Vocabulary.fit("word", known)
    order = sorted(set(known))
    wanted = [order.index(word) + 2 if word in known else 1 for word in asked]
    found = vocabulary(asked)["word"]
    assert found.dtype == np.int64
    assert found.tolist() == wanted
    assert len(vocabulary) == len(set(known)) + 2


def test_the_number_7_and_the_text_7_are_one_value() -> None:
    numbers = Vocabulary.fit("user", np.array([7, 10, 9]))
    assert numbers.values == ("10", "7", "9")  # sorted as text
    assert numbers(["7", "9", "8"])["user"].tolist() == [3, 4, 1]
    assert Vocabulary.fit("user", ["7", "10", "9"])(np.array([7, 8]))["user"].tolist() == [3, 1]


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    vocabulary = Vocabulary.fit("word", ODD)
    settings = json.loads(json.dumps(vocabulary.save(tmp_path)))
    again = Vocabulary.load(tmp_path, settings)
    assert again.fingerprint == vocabulary.fingerprint
    assert np.array_equal(again(ODD)["word"], vocabulary(ODD)["word"])


def test_the_fingerprint_is_of_column_and_values() -> None:
    prints = {Vocabulary(c, v).fingerprint for c, v in (("a", "xy"), ("b", "xy"), ("a", "yx"), ("a", ["xy"]))}
    assert len(prints) == 4
