import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.candidate import ListTerm, at, best, drawn, listed, ordered, others, owned

torch.set_num_threads(1)
GONE = -math.inf


class Sum(ListTerm):
    """The student's scores of the items that are left."""

    def losses(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.isneginf(teacher), 0.0, student).sum(1)


def test_the_best_are_in_falling_order_and_padded_where_items_are_left_out() -> None:
    teacher = torch.tensor([[0.0, 3.0, GONE, 1.0], [GONE, GONE, GONE, 2.0]])
    assert best(teacher, 3).tolist() == [[1, 3, 0], [3, -1, -1]]
    assert best(teacher, 9).shape == (2, 4)


def test_the_others_are_all_that_is_left_where_no_more_are_asked_for_and_no_chance_is_spent() -> None:
    teacher = torch.tensor([[0.0, 3.0, GONE, 1.0], [5.0, 4.0, 3.0, 2.0]])
    before = torch.get_rng_state()
    found = others(teacher, best(teacher, 2), 2)
    assert [sorted(row) for row in found.tolist()] == [[-1, 0], [2, 3]]
    assert torch.equal(before, torch.get_rng_state())


def test_others_are_drawn_evenly_from_what_is_neither_taken_nor_left_out() -> None:
    torch.manual_seed(0)
    teacher = torch.tensor([[9.0, 1.0, GONE, 2.0, 3.0, 0.0]]).repeat(4000, 1)
    found = others(teacher, best(teacher, 1), 2)
    assert (found[:, 0] != found[:, 1]).all()
    counts = torch.bincount(found.flatten(), minlength=6)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert (counts[[1, 3, 4, 5]] / 4000).tolist() == pytest.approx([0.5] * 4, abs=0.04)


def test_weights_say_how_often_a_place_is_drawn() -> None:
    torch.manual_seed(0)
    logs = torch.tensor([0.6, 0.3, 0.1]).log().repeat(6000, 1)
    counts = torch.bincount(drawn(logs, 1).flatten(), minlength=3)
    assert (counts / 6000).tolist() == pytest.approx([0.6, 0.3, 0.1], abs=0.03)


def test_rows_with_fewer_than_asked_for_are_padded_among_rows_with_more() -> None:
    logs = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, GONE, GONE, GONE], [GONE, GONE, GONE, GONE]])
    found = drawn(logs, 2)
    assert (found[0] >= 0).all()
    assert sorted(found[1].tolist()) == [-1, 0]
    assert found[2].tolist() == [-1, -1]


def naive_ordered(scores: list[float], first: list[int], rest: list[int]) -> float:
    """Draw by draw."""
    total = 0.0
    for k, item in enumerate(first):
        pool = first[k:] + rest
        total -= math.log(math.exp(scores[item]) / sum(math.exp(scores[i]) for i in pool))
    return total


@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 4))
def test_an_order_costs_what_drawing_it_item_by_item_does(seed: int, firsts: int, rests: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(1, 9, generator=generator)
    order = torch.randperm(9, generator=generator).tolist()
    first, rest = order[:firsts], order[firsts : firsts + rests]
    padded = [torch.tensor([places + [-1] * (5 - len(places))]) for places in (first, rest)]
    found = ordered(scores, *padded).item()
    assert found == pytest.approx(naive_ordered(scores[0].tolist(), first, rest), rel=1e-4, abs=1e-5)


def test_the_chances_of_all_orders_add_to_1() -> None:
    scores = torch.tensor([[0.3, -1.2, 0.8, 0.1]])
    orders = [torch.tensor([order]) for order in itertools.permutations(range(4), 2)]
    rests = [torch.tensor([[i for i in range(4) if i not in order[0].tolist()]]) for order in orders]
    total = sum(math.exp(-ordered(scores, a, b).item()) for a, b in zip(orders, rests, strict=True))
    assert total == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_order_of_extreme_scores_is_finite_and_so_is_its_gradient(dtype: torch.dtype) -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0, 30.0]], dtype=dtype, requires_grad=True)
    for first in ([[1, 0, -1]], [[0, 1, 2]], [[-1, -1, -1]], [[2, 1, 3]]):
        for rest in ([[3, -1]], [[-1, -1]]):
            loss = ordered(scores, torch.tensor(first), torch.tensor(rest)).sum()
            (gradient,) = torch.autograd.grad(loss, scores)
            assert torch.isfinite(loss)
            assert torch.isfinite(gradient).all()


def test_stored_candidates_and_the_whole_catalogue_mask_the_same_targets() -> None:
    student, teacher = torch.randn(2, 6), torch.randn(2, 6)
    targets = torch.tensor([[1, 4], [0, -1]])
    ids = torch.arange(6).repeat(2, 1)
    stored = {"scores.ids": ids.int(), "scores.values": teacher}
    whole = Sum()({"scores": student}, {"scores": teacher}, {"targets": targets})
    assert Sum()({"scores": student}, stored, {"targets": targets}).item() == pytest.approx(whole.item(), rel=1e-6)
    assert whole.item() == pytest.approx((student[0, [0, 2, 3, 5]].sum() + student[1, 1:].sum()).item() / 2, rel=1e-5)
    kept = Sum(mask_seen=False)({"scores": student}, {"scores": teacher}, {})
    assert kept.item() == pytest.approx(student.sum().item() / 2, rel=1e-5)


def test_padding_among_candidates_is_no_item_and_a_row_without_any_does_not_count() -> None:
    student = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    stored = {"scores.ids": torch.tensor([[2, 0], [-1, -1]]), "scores.values": torch.zeros(2, 2)}
    assert Sum(mask_seen=False)({"scores": student}, stored, {}).item() == 5.0
    mine, theirs, ids = listed({"scores": student}, stored, signal="scores")
    assert mine[0].tolist() == [4.0, 1.0]
    assert theirs[1].tolist() == [GONE, GONE]
    assert owned(torch.tensor([[2, -1], [-1, -1]]), theirs, ids).tolist() == [[True, False], [False, False]]
    assert at(student, torch.tensor([[1], [-1]])).tolist() == [[2.0], [8.0]]


@pytest.mark.parametrize("scale", [1.0, 300.0])  # within what float32 can sum, and beyond
def test_the_gradient_of_an_order_is_that_of_its_formula(scale: float) -> None:
    torch.manual_seed(0)
    scores = scale * torch.randn(5, 9)
    places = torch.rand(5, 9).argsort(1)
    first, rest = places[:, :4].clone(), places[:, 4:7].clone()
    first[0, 2:], rest[1] = -1, -1
    leaves = [scores.clone().requires_grad_(), scores.double().requires_grad_()]
    wanted = leaves[1].new_zeros(())
    for row in range(5):
        own, below = ([place for place in places[row].tolist() if place >= 0] for places in (first, rest))
        for k, place in enumerate(own):
            wanted = wanted + leaves[1][row, own[k:] + below].logsumexp(0) - leaves[1][row, place]
    found = ordered(leaves[0], first, rest).sum()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    mine, theirs = (torch.autograd.grad(value, leaf)[0] for value, leaf in zip((found, wanted), leaves, strict=True))
    torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5)
