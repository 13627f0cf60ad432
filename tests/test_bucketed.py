import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.bucketed import bucketed
from tests.losses import laws


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.3, 8.0))
def test_both_are_merged_class_by_class(seed: int, top: int, temperature: float) -> None:
    student, teacher = laws.drawn(3, 13, seed=seed)
    said = laws.stored(teacher, top, temperature)
    ids = said["logits.ids"].long()
    pair = bucketed(student, ids, said["logits.values"], said["logits.tail"][:, 0], temperature=temperature)
    for whole, found in zip((student, teacher), pair, strict=True):
        p = torch.softmax(whole / temperature, 1)
        named = p.gather(1, ids)
        wanted = torch.cat([named, p.scatter(1, ids, 0.0).sum(1, keepdim=True)], 1)
        torch.testing.assert_close(torch.softmax(found / temperature, 1), wanted, rtol=1e-4, atol=1e-6)


def test_padding_names_no_class_and_has_no_mass() -> None:
    student, ids = torch.zeros(2, 4), torch.tensor([[1, -1, -1], [-1, -1, -1]])
    values = torch.tensor([[2.0, -math.inf, 7.0], [-math.inf, -math.inf, -math.inf]])
    mine, theirs = bucketed(student, ids, values, torch.tensor([0.5, 1.0]), temperature=1.0)
    assert torch.softmax(mine, 1).tolist() == [pytest.approx([0.25, 0, 0, 0.75]), pytest.approx([0, 0, 0, 1.0])]
    assert torch.softmax(theirs, 1).tolist() == [pytest.approx([0.5, 0, 0, 0.5]), pytest.approx([0, 0, 0, 1.0])]


def test_where_every_class_is_named_the_bucket_is_empty() -> None:
    student, teacher = laws.drawn(2, 3)
    ids = torch.arange(3).repeat(2, 1)
    mine, theirs = bucketed(student, ids, teacher, torch.zeros(2), temperature=2.0)
    for whole, found in ((student, mine), (teacher, theirs)):
        p = torch.softmax(found / 2, 1)
        assert p[:, 3].tolist() == [0.0, 0.0]
        torch.testing.assert_close(p[:, :3], torch.softmax(whole / 2, 1))


def test_no_gradient_reaches_values_or_tail() -> None:
    student, values, tail = (torch.full(shape, 0.5, requires_grad=True) for shape in ((1, 4), (1, 2), (1,)))
    mine, theirs = bucketed(student, torch.tensor([[0, 2]]), values, tail, temperature=1.0)
    assert not theirs.requires_grad
    mine[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert values.grad is None
    assert tail.grad is None
