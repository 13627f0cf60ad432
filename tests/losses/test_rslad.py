import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.rslad import Rslad, rslad
from tests.losses import laws
from tests.losses.naive import relative_entropy, softmax


def naive(clean: Tensor, attacked: Tensor, teacher: Tensor) -> list[float]:
    losses = []
    for z, a, t in zip(clean, attacked, teacher, strict=True):
        p = softmax(t)
        losses.append((5 * relative_entropy(p, softmax(a)) + relative_entropy(p, softmax(z))) / 6)
    return losses


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(rslad, naive, *laws.drawn(*shape, count=3))


def test_the_term_reads_clean_and_attacked_rows_by_their_names() -> None:
    clean, attacked, teacher = laws.drawn(3, 5, count=3)
    term = Rslad(attacked_share=0.25, attacked="shaken", signal="plain")
    found = term({"plain": clean, "shaken": attacked}, {"plain": teacher}, {})
    wanted = rslad(clean, attacked, teacher, attacked_share=0.25).mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_gradient_reaches_both_parts_of_the_student_and_never_the_teacher() -> None:
    clean, attacked, teacher = laws.drawn(3, 5, count=3)
    laws.only_the_student_learns(lambda s, t: rslad(s, attacked, t), clean, teacher)
    laws.only_the_student_learns(lambda s, t: rslad(clean, s, t), attacked, teacher)
    laws.ignores_the_order_of_rows(rslad, clean, attacked, teacher)


def test_zero_at_equality_and_finite_at_extremes() -> None:
    teacher = laws.drawn(3, 5)[0]
    assert rslad(teacher + 1, teacher - 1, teacher).abs().max() < 1e-5
    laws.stays_finite(lambda s, t: rslad(s, -s, t))


def test_the_soft_target_is_the_teachers_distribution() -> None:
    teacher = laws.drawn(3, 5)[0]
    found = Rslad().target({"logits": teacher}, {})
    assert found is not None
    torch.testing.assert_close(found, torch.softmax(teacher, 1))


def test_an_impossible_share_is_refused() -> None:
    with pytest.raises(UserError, match="attacked_share is 2"):
        Rslad(attacked_share=2)
