import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.sequence_kd import SequenceKd, sequence_kd
from tests.losses import laws
from tests.losses.naive import softmax

TOKENS = torch.tensor([[3, 0, 4, 1], [2, -1, -1, -1], [-1, -1, -1, -1]])


def naive(student: Tensor, tokens: Tensor) -> list[float]:
    return [
        -sum(math.log(softmax(step)[token]) for step, token in zip(steps, row, strict=True) if token >= 0)
        for steps, row in zip(student, tokens.tolist(), strict=True)
    ]


@pytest.mark.parametrize("vocabulary", [5, 41])
def test_equal_to_a_naive_sum(vocabulary: int) -> None:
    laws.equals_naive(sequence_kd, naive, laws.drawn(3, 4, vocabulary)[0], TOKENS)


def test_the_mean_is_over_tokens_and_a_text_without_any_does_not_count() -> None:
    student = laws.drawn(3, 4, 5)[0]
    found = SequenceKd()({"steps": student}, {"tokens": TOKENS}, {})
    assert found.item() == pytest.approx(sum(naive(student.double(), TOKENS)) / 5, rel=1e-5)


def test_padding_has_no_gradient_whatever_stands_there() -> None:
    student = laws.drawn(3, 4, 5)[0].masked_fill((TOKENS < 0).unsqueeze(2), math.nan)
    found = laws.gradient(lambda s: sequence_kd(s, TOKENS), student)
    assert torch.isfinite(found).all()
    assert found[TOKENS >= 0].any()
    assert not found[TOKENS < 0].any()


def test_rows_may_stand_in_any_order_and_extreme_logits_are_finite() -> None:
    student = laws.drawn(3, 4, 5)[0]
    laws.ignores_the_order_of_rows(sequence_kd, student, TOKENS)
    for scale in (1e4, -1e4):
        assert torch.isfinite(sequence_kd(student.sign() * scale, TOKENS)).all()


def test_a_text_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match=r"tokens have shape \(3, 4\), the student's steps \(3, 5\)"):
        sequence_kd(torch.zeros(3, 5, 2), TOKENS)
