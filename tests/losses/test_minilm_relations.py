import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.minilm_relations import MinilmRelations, minilm_relations
from tests.losses import hidden, laws
from tests.losses.naive import relative_entropy, softmax


def naive(student: Tensor, teacher: Tensor, heads: int = 2) -> list[list[float]]:
    """Row by row, token by token, head by head."""

    def relations(states: Tensor, token: int, head: int) -> list[float]:
        wide = states.shape[1] // heads
        part = states[:, head * wide : (head + 1) * wide]
        scores = [sum(a * b for a, b in zip(part[token].tolist(), other.tolist(), strict=True)) for other in part]
        return softmax(torch.tensor(scores, dtype=torch.float64) / math.sqrt(wide))

    return [
        [
            sum(relative_entropy(relations(t, token, head), relations(s, token, head)) for head in range(heads)) / heads
            for token in range(len(s))
        ]
        for s, t in zip(student, teacher, strict=True)
    ]


@pytest.mark.parametrize(("tokens", "widths"), [(5, (4, 6)), (1, (2, 2)), (7, (6, 82))])
def test_equal_to_a_naive_sum(tokens: int, widths: tuple[int, int]) -> None:
    student, teacher = (laws.drawn(3, tokens, wide, seed=wide, scale=0.7)[0] for wide in widths)
    laws.equals_naive(lambda s, t: minilm_relations(s, t, heads=2), naive, student, teacher, rounding=0.1)


@given(st.integers(0, 10**6))
def test_zero_for_equals_never_below_and_blind_to_turning(seed: int) -> None:
    student, teacher = laws.drawn(2, 4, 5, seed=seed, scale=1.0)
    turn = torch.linalg.qr(laws.drawn(5, 5, seed=seed + 1)[0])[0]
    found = minilm_relations(student, teacher, heads=1)
    assert (found >= -1e-6).all()
    torch.testing.assert_close(minilm_relations(student @ turn, teacher, heads=1), found, rtol=1e-3, atol=1e-4)
    assert minilm_relations(teacher @ turn, teacher, heads=1).abs().max() < 1e-4


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        return minilm_relations(student, teacher, heads=2)

    laws.only_the_student_learns(loss, *laws.drawn(3, 4, 6))
    laws.ignores_the_order_of_rows(loss, *laws.drawn(3, 4, 6))


def test_padding_is_neither_looked_at_nor_looks() -> None:
    student, teacher = laws.drawn(2, 4, 6, scale=1.0)
    term = hidden.sized(MinilmRelations(student="a", teacher="b", heads=2), student, teacher)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    found = hidden.value(term, student, teacher, mask=mask)
    short = [hidden.value(term, student[i : i + 1, :n], teacher[i : i + 1, :n]) for i, n in enumerate((3, 2))]
    torch.testing.assert_close(found, torch.stack(short).mean())
    hidden.leaves_out_padding(MinilmRelations(student="a", teacher="b", heads=2))


def test_a_text_without_tokens_loses_nothing() -> None:
    student, teacher = laws.drawn(2, 4, 6)
    term = hidden.sized(MinilmRelations(student="a", teacher="b", heads=2), student, teacher)
    leaf = student.requires_grad_()
    loss = hidden.value(term, leaf, teacher, mask=torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]]))
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient[0].any()
    assert torch.isfinite(gradient).all()
    assert not gradient[1].any()


def test_queries_keys_and_values_are_added_up() -> None:
    student, teacher = laws.drawn(3, 4, 6)
    term = hidden.sized(MinilmRelations(student=["q", "k", "v"], teacher=["q", "k", "v"], heads=3), student, teacher)
    wanted = 3 * minilm_relations(student, teacher, heads=3).mean()
    torch.testing.assert_close(hidden.value(term, student, teacher), wanted)


def test_it_brings_the_relations_together() -> None:
    hidden.learns(MinilmRelations(student="a", teacher="b", heads=2), *laws.drawn(2, 4, 6, scale=1.0))


def test_extreme_states_give_finite_values_and_gradients() -> None:
    hidden.stays_finite(MinilmRelations(student="a", teacher="b", heads=2), (3, 4, 6))


def test_heads_that_do_not_part_the_widths_are_refused() -> None:
    with pytest.raises(UserError, match="heads, which is 4, must divide D"):
        hidden.sized(MinilmRelations(student="a", teacher="b", heads=4), *laws.drawn(3, 4, 6))
    with pytest.raises(UserError, match=r"must be \(B, T, D\)"):
        hidden.sized(MinilmRelations(student="a", teacher="b", heads=1), *laws.drawn(3, 4, 6, 6))
    with pytest.raises(UserError, match="heads is 0"):
        MinilmRelations(student="a", teacher="b", heads=0)
