import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.tiny_bert import TinyBert, tiny_bert
from tests.losses import hidden, laws


def flat(student_query: Tensor, student_key: Tensor, teacher_query: Tensor, teacher_key: Tensor) -> Tensor:
    return tiny_bert((student_query, student_key), (teacher_query, teacher_key), heads=2)


def naive(*states: Tensor) -> list[float]:
    """Row by row, head by head, pair by pair of tokens."""

    def scores(query: Tensor, key: Tensor) -> list[float]:
        wide = query.shape[1] // 2
        found = []
        for head in range(2):
            part = slice(head * wide, (head + 1) * wide)
            for q in query[:, part].tolist():
                products = (sum(a * b for a, b in zip(q, k, strict=True)) for k in key[:, part].tolist())
                found += [product / math.sqrt(wide) for product in products]
        return found

    rows = []
    for own_query, own_key, query, key in zip(*states, strict=True):
        both = list(zip(scores(own_query, own_key), scores(query, key), strict=True))
        rows.append(sum((a - b) ** 2 for a, b in both) / len(both))
    return rows


@pytest.mark.parametrize(("tokens", "widths"), [(5, (4, 6)), (1, (2, 2)), (3, (6, 82))])
def test_equal_to_a_naive_sum(tokens: int, widths: tuple[int, int]) -> None:
    mine, theirs = (laws.drawn(3, tokens, wide, seed=wide, scale=1.0) for wide in widths)
    laws.equals_naive(flat, naive, *mine, *theirs, rounding=0.1)


def test_zero_for_equals_and_only_the_student_learns() -> None:
    query, key, other, another = laws.drawn(3, 4, 6, count=4)
    assert not flat(query, key, query, key).any()
    assert (flat(query, key, other, another) > 0).all()
    ignored = key.clone()
    laws.only_the_student_learns(lambda q, a, b: flat(q, ignored.to(q.dtype), a, b), query, other, another)
    laws.ignores_the_order_of_rows(flat, query, key, other, another)


def term(**settings: int) -> TinyBert:
    return TinyBert(
        student=["a", "b"],
        teacher=["c", "d"],
        student_attention=["q", "k"],
        teacher_attention=["r", "l"],
        heads=2,
        **settings,  # type: ignore[arg-type]
    )


def test_states_and_scores_of_all_layers_are_added_up() -> None:
    student, teacher = laws.drawn(3, 4, 6, scale=1.0)
    one = hidden.sized(term(), student, teacher)
    assert len(one.projections) == 2
    wanted = [(project(student, teacher) - teacher).square().mean() for project in one.projections]
    wanted.append(flat(student, student, teacher, teacher).mean())
    torch.testing.assert_close(hidden.value(one, student, teacher), sum(wanted))


def test_each_query_goes_with_its_key() -> None:
    signals = dict(zip("abqkcdrl", laws.drawn(3, 4, 6, count=8), strict=True))
    mine, theirs = ({f"hidden.{name}": signals[name] for name in names} for names in ("abqk", "cdrl"))
    one = term()
    one.size(mine, theirs, {})
    scores = flat(signals["q"], signals["k"], signals["r"], signals["l"]).mean()
    plain = TinyBert(student=["a", "b"], teacher=["c", "d"])
    plain.projections = one.projections
    torch.testing.assert_close(one(mine, theirs, {}), plain(mine, theirs, {}) + scores)


def test_padding_neither_counts_nor_is_looked_at() -> None:
    hidden.leaves_out_padding(term())
    student, teacher = laws.drawn(2, 4, 6, scale=1.0)
    one = hidden.sized(term(), student, teacher)
    found = hidden.value(one, student, teacher, mask=torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]))
    short = [hidden.value(one, student[i : i + 1, :n], teacher[i : i + 1, :n]) for i, n in enumerate((3, 2))]
    torch.testing.assert_close(found, torch.stack(short).mean())


def test_it_learns_through_its_projections() -> None:
    hidden.learns(term(), *laws.drawn(2, 4, 6, scale=1.0))


def test_extreme_states_give_finite_values_and_gradients() -> None:
    hidden.stays_finite(term(), (3, 4, 6))


def test_heads_and_parts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match="heads, which is 2, must divide D"):
        hidden.sized(term(), *laws.drawn(3, 4, 5))
    with pytest.raises(UserError, match="names 1 parts and teacher_attention 1; name queries and keys by turns"):
        TinyBert(student="a", teacher="b", student_attention=["q"], teacher_attention=["q"])
    with pytest.raises(UserError, match="names 2 parts and teacher_attention 0"):
        TinyBert(student="a", teacher="b", student_attention=["q", "k"])
