import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.masked_generative import MaskedGenerative, masked_generative
from tests.losses import hidden, laws


def shifted(states: Tensor) -> Tensor:
    """What each place is made of: its left neighbour."""
    return states.roll(1, 2)


def naive(student: Tensor, teacher: Tensor, seen: Tensor) -> list[float]:
    """Row by row, width by width, place by place."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        loss = 0.0
        for mine, theirs in zip(s, t, strict=True):
            shown = [x * m for x, m in zip(mine, seen.tolist(), strict=True)]
            loss += sum((shown[i - 1] - theirs[i]) ** 2 for i in range(len(theirs)))
        rows.append(loss)
    return rows


@pytest.mark.parametrize("shape", [(3, 5, 4), (2, 7, 41)])
def test_equal_to_a_naive_sum(shape: tuple[int, ...]) -> None:
    seen = (torch.arange(shape[2]) % 3 > 0).float()
    laws.equals_naive(
        lambda s, t: masked_generative(s, t, seen=seen.to(s.dtype), generate=shifted),
        lambda s, t: naive(s, t, seen),
        *laws.drawn(*shape),
    )


def test_hidden_places_teach_nothing_and_only_the_student_learns() -> None:
    seen = torch.tensor([1.0, 0.0, 1.0, 1.0])

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        return masked_generative(student, teacher, seen=seen.to(student.dtype), generate=shifted)

    laws.only_the_student_learns(loss, *laws.drawn(3, 5, 4))
    laws.ignores_the_order_of_rows(loss, *laws.drawn(3, 5, 4))
    gradient = laws.gradient(loss, *laws.drawn(3, 5, 4))
    assert not gradient[:, :, 1].any()
    assert gradient[:, :, [0, 2, 3]].all()


@pytest.mark.parametrize("shape", [(3, 200, 5), (2, 3, 20, 20)])
def test_the_share_of_places_that_is_hidden_is_the_one_asked_for(shape: tuple[int, ...]) -> None:
    student, teacher = laws.drawn(*shape)
    term = hidden.sized(MaskedGenerative(student="a", teacher="b", masked=0.65), student, teacher)
    found: list[Tensor] = []
    term.generators[0].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    torch.manual_seed(0)
    hidden.value(term, student, teacher)
    gone = (found[0] == 0).all(1)
    assert gone.float().mean().item() == pytest.approx(0.65, abs=0.1)
    assert torch.equal(gone[0], gone[1])  # alike for all rows
    hidden.value(term, student, teacher)
    assert not torch.equal(found[0] == 0, found[1] == 0)


@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 3, 4, 4)])
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(MaskedGenerative(student="a", teacher="b"), shape)


def test_it_learns_through_its_generator() -> None:
    hidden.learns(MaskedGenerative(student="a", teacher="b", masked=0.3), *laws.drawn(3, 4, 7), steps=300)


def test_states_without_places_and_an_impossible_share_are_refused() -> None:
    with pytest.raises(UserError, match="no places to compare"):
        hidden.sized(MaskedGenerative(student="a", teacher="b"), *laws.drawn(3, 5))
    with pytest.raises(UserError, match=r"masked is 1\.5"):
        MaskedGenerative(student="a", teacher="b", masked=1.5)
