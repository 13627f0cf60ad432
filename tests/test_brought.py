import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from limbeck.brought import TEXT, Reading, few, tensor
from limbeck.errors import UserError
from limbeck.types import Axis, Lists

LABELS = Axis("label", ("a", "b", "c"))
THREE = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6).map(lambda s: (s[0], 3)),
               elements=st.floats(0.01, 1))  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(THREE)
def test_the_softmax_of_probabilities_as_logits_is_the_probabilities(numbers):
    chances = numbers / numbers.sum(1, keepdims=True)
    said = Reading("x", LABELS, kind="probabilities")(chances)["logits"].astype(np.float64)
    again = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    assert np.allclose(again, chances, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(THREE, st.permutations(LABELS.values))
def test_classes_in_any_order_land_on_the_axis(numbers, order):
    turned = numbers[:, [LABELS.values.index(value) for value in order]]
    said = Reading("x", LABELS, kind="logits", classes=tuple(order))(turned)["logits"]
    assert np.array_equal(said, numbers.astype(np.float32))


def test_names_and_kinds_follow_the_axis_unless_they_are_given():
    numbers = np.array([[0.0, 1.0, 3.0]])
    items = Axis("item", LABELS.values)
    for reading, name, kind in [
        (Reading("x", LABELS), "logits", "logits"),
        (Reading("x", items), "scores", "scores"),
        (Reading("x", items, signal="teacher"), "teacher", "scores"),
        (Reading("x", LABELS, kind="values"), "logits", "values"),
    ]:
        assert dict(reading(numbers).kinds) == {name: kind}


def test_masks_are_for_scores_only():
    numbers = np.array([[-np.inf, 1.0, 3.0]])
    assert Reading("x", Axis("item", LABELS.values))(numbers)["scores"][0, 0] == -np.inf
    with pytest.raises(UserError, match="1 of 3 numbers are NaN or infinite"):
        Reading("x", LABELS)(numbers)


def test_numbers_beyond_float32_are_refused():
    with pytest.raises(UserError, match="1 of 3 numbers are NaN or infinite"):
        Reading("x", LABELS)(np.array([[0.0, 1.0, 1e300]]))


@pytest.mark.parametrize("chances", [[0.2, 0.2, 0.2], [1.2, -0.1, -0.1], [0.9, 0.9, 0.1]])
def test_promised_probabilities_must_be_some(chances):
    with pytest.raises(UserError, match="promises probabilities"):
        Reading("x", LABELS, kind="probabilities")(np.array([chances]))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("a", "b"), "not the task's 3; missing: 'c'"),
        (("a", "b", "c", "c"), "named twice"),
        (("a", "b", "d"), "unknown to the task: 'd'; missing: 'c'"),
    ],
)
def test_classes_must_be_the_tasks_own(classes, words):
    with pytest.raises(UserError, match=words):
        Reading("x", LABELS, classes=classes)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-5, 5), max_size=4), min_size=1, max_size=5))
def test_lists_are_padded_on_the_right_with_zero(rows):
    padded = tensor(Lists.of(rows), "int64", (None, None), "x")
    width = max(1, *(len(row) for row in rows), 1)
    assert padded.tolist() == [row + [0] * (width - len(row)) for row in rows]


def test_texts_fill_inputs_of_text():
    words = Lists.of([["a"], ["b", "c"], []])
    assert tensor(words, TEXT, (None, 3), "x").tolist() == [["a", "", ""], ["b", "c", ""], ["", "", ""]]
    assert tensor(np.array([7, 8]), TEXT, (None, 1), "x").tolist() == [["7"], ["8"]]
    assert tensor(["a", "b"], TEXT, (None,), "x").tolist() == ["a", "b"]


def test_a_number_that_the_type_cannot_hold_is_refused():
    assert tensor(np.array([1.0, 2.0]), "int8", (None,), "x").tolist() == [1, 2]
    for wrong in (np.array([1.5]), np.array([300]), np.array([np.nan])):
        with pytest.raises(UserError, match="x: the column holds numbers that int8 cannot"):
            tensor(wrong, "int8", (None,), "x")


def test_long_lists_of_names_are_cut():
    assert few(list(range(8))) == "0, 1, 2, 3, 4 and 3 more"
