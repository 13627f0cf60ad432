import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from limbeck.errors import UserError
from limbeck.losses.contrastive_representation import ContrastiveRepresentation, contrastive_representation
from tests.losses import hidden, laws


def naive(anchor: Tensor, own: Tensor, bank: Tensor, others: Tensor, temperature: float = 0.07) -> list[float]:
    """Row by row, entry by entry."""

    def dot(x: list[float], y: list[float]) -> float:
        return sum(a * b for a, b in zip(x, y, strict=True))

    rows = []
    for a, mine, there in zip(anchor.tolist(), own.tolist(), others.tolist(), strict=True):
        scale = max(sum(there), 1) * math.exp(1 / (2 * len(a) * temperature**2))
        loss = math.log(1 + scale * math.exp(-dot(a, mine) / temperature))
        for entry, is_other in zip(bank.tolist(), there, strict=True):
            loss += math.log(1 + math.exp(dot(a, entry) / temperature) / scale) if is_other else 0.0
        rows.append(loss)
    return rows


def drawn(rows: int = 3, held: int = 9, width: int = 5, seed: int = 0) -> tuple[Tensor, ...]:
    anchor, own = laws.drawn(rows, width, seed=seed)
    bank = laws.drawn(held, width, seed=seed + 1)[0]
    others = torch.rand(rows, held, generator=torch.Generator().manual_seed(seed)) < 0.7
    return normalize(anchor), normalize(own), normalize(bank), others


@pytest.mark.parametrize("width", [5, 41])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equal_to_a_naive_sum(width: int, temperature: float) -> None:
    laws.equals_naive(
        lambda *x: contrastive_representation(*x, temperature=temperature),
        lambda *x: naive(*x, temperature),
        *drawn(width=width),
        rounding=0.1,
    )


@given(st.integers(0, 10**6))
def test_never_below_zero_and_less_for_a_pair_that_agrees(seed: int) -> None:
    anchor, own, bank, others = drawn(seed=seed)
    found = contrastive_representation(anchor, own, bank, others)
    assert (found >= 0).all()
    assert (contrastive_representation(anchor, anchor, bank, others) <= found + 1e-4).all()


def test_only_the_anchor_learns_and_a_row_without_others_is_finite() -> None:
    anchor, own, bank, others = drawn()
    laws.only_the_student_learns(lambda a, o, b: contrastive_representation(a, o, b, others), anchor, own, bank)
    alone = torch.zeros_like(others)
    laws.only_the_student_learns(lambda a, o, b: contrastive_representation(a, o, b, alone), anchor, own, bank)


def test_the_mean_over_unrelated_directions_is_the_expected_one() -> None:
    """What the source estimates from its first batch."""
    x, y = normalize(torch.randn(2, 4000, 128, generator=torch.Generator().manual_seed(0)), dim=2)
    found = torch.exp((x @ y.T) / 0.07).mean().item()
    assert found == pytest.approx(math.exp(1 / (2 * 128 * 0.07**2)), rel=0.05)


def term(**settings: float) -> ContrastiveRepresentation:
    return ContrastiveRepresentation(student="a", teacher="b", width=6, slots=10, **settings)  # type: ignore[arg-type]  # none is of what is whole


def held(one: ContrastiveRepresentation) -> list[int]:
    return one.contrasts[0].owner.tolist()  # type: ignore[operator, union-attr]


def test_rows_are_remembered_by_their_id_while_it_learns_and_only_then() -> None:
    student, teacher = laws.drawn(3, 5)
    one = hidden.sized(term(), student, teacher)
    with torch.no_grad():
        hidden.value(one, student, teacher, id=torch.tensor([3, 11, 8]))
    hidden.value(one.eval(), student, teacher, id=torch.tensor([3, 11, 8]))
    assert held(one) == [-1] * 10
    hidden.value(one.train(), student, teacher, id=torch.tensor([3, 11, 8]))
    assert held(one) == [-1, 11, -1, 3, -1, -1, -1, -1, 8, -1]
    hidden.value(one, student, teacher, id=torch.tensor([21, 8, 31]))
    assert held(one)[1] == 31  # the last of those that want the place
    assert held(one)[8] == 8


def test_what_is_held_of_a_row_moves_with_momentum_and_never_across_rows() -> None:
    student, teacher = laws.drawn(1, 5)
    one = hidden.sized(term(momentum=0.75), student, teacher)
    hidden.value(one, student, teacher, id=torch.tensor([4]))
    memory = one.contrasts[0]
    first = memory.student[4].clone()  # type: ignore[index]
    said = [normalize(memory.maps[0](x), dim=1)[0] for x in (student, -student)]  # type: ignore[index, operator]
    torch.testing.assert_close(first, said[0].detach())
    hidden.value(one, -student, teacher, id=torch.tensor([4]))
    torch.testing.assert_close(memory.student[4], normalize(0.75 * first + 0.25 * said[1].detach(), dim=0))  # type: ignore[index]
    hidden.value(one, -student, teacher, id=torch.tensor([14]))
    torch.testing.assert_close(memory.student[4], said[1].detach())  # type: ignore[index]


def test_a_resumed_memory_goes_on_as_it_was() -> None:
    student, teacher = laws.drawn(4, 5)
    one, other = (hidden.sized(term(), student, teacher) for _ in range(2))
    hidden.value(one, student, teacher, id=torch.arange(4))
    other.load_state_dict(one.state_dict())
    found = hidden.value(other, student.flip(0), teacher, id=torch.arange(4, 8))
    assert found.item() == hidden.value(one, student.flip(0), teacher, id=torch.arange(4, 8)).item()


def test_several_passes_may_stand_before_one_step_back() -> None:
    student, teacher = laws.drawn(4, 5)
    one = hidden.sized(term(), student, teacher)
    leaf = student.requires_grad_()
    losses = [hidden.value(one, leaf[rows], teacher[rows], id=torch.tensor(rows)) for rows in ([0, 1], [1, 2], [3, 0])]
    sum(losses).backward()  # type: ignore[union-attr]
    assert torch.isfinite(leaf.grad).all()  # type: ignore[arg-type]


def test_padding_does_not_count() -> None:
    hidden.leaves_out_padding(term().eval(), id=torch.arange(3))


def test_it_learns_to_tell_rows_apart() -> None:
    one = ContrastiveRepresentation(student="a", teacher="b", temperature=0.2, slots=16)
    hidden.learns(one, *laws.drawn(8, 6), steps=150, id=torch.arange(8))


@pytest.mark.parametrize("shape", hidden.SHAPES)
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(term(), shape, id=torch.arange(shape[0]))


def test_rows_without_a_name_and_impossible_settings_are_refused() -> None:
    student, teacher = laws.drawn(3, 5)
    with pytest.raises(UserError, match="the batch has no 'id'"):
        hidden.value(hidden.sized(term(), student, teacher), student, teacher)
    with pytest.raises(UserError, match="temperature is 0"):
        term(temperature=0)
    with pytest.raises(UserError, match=r"momentum is 1\.5"):
        term(momentum=1.5)
