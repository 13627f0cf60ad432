import pytest

from limbeck.errors import UserError
from limbeck.losses.ard import Ard, ard
from tests.losses import laws
from tests.losses.naive import of_rows, relative_entropy


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(lambda s, t: ard(s, t, temperature=5.0), of_rows(relative_entropy, 5.0), *laws.drawn(*shape))


def test_the_attacked_student_is_compared_with_the_teacher_on_clean_rows() -> None:
    clean, attacked, teacher = laws.drawn(3, 5, count=3)
    found = Ard()({"logits": clean, "attacked": attacked}, {"logits": teacher}, {})
    assert found.item() == pytest.approx(ard(attacked, teacher).mean().item(), rel=1e-6)
    assert ard(teacher + 1, teacher).abs().max() < 1e-3


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(ard, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(ard, *laws.drawn(3, 5))


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    laws.stays_finite(ard)


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    assert 0.2 < laws.change_of_gradient(lambda t: lambda x, y: ard(x, y, temperature=t)) < 5


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        Ard(temperature=0)
