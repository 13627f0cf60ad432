import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.easy_to_hard import EasyToHard, discrepancy, easy_to_hard
from limbeck.testing import check_loss
from tests.losses.laws import (
    SHAPES,
    apart,
    drawn,
    equals_naive,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)

EVERY = 401
"""As many sampled items as there can be: nothing is left to chance."""


def naive(student: Tensor, teacher: Tensor, top: int, exact: bool) -> list[float]:
    """Item by item."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = sorted((i for i in range(len(t)) if t[i] > -math.inf), key=lambda i: -t[i])
        pools = [order[k:] if exact else [order[k], *order[top:]] for k in range(len(order[:top]))]
        rows.append(sum(math.log(sum(math.exp(s[i]) for i in pool)) - s[pool[0]] for pool in pools))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exact", [False, True])
def test_equal_to_a_sum_over_items(shape: tuple[int, int], exact: bool) -> None:
    (student,), teacher = drawn(*shape, count=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    found = partial(easy_to_hard, top=2, sampled=EVERY, exact=exact)
    equals_naive(found, partial(naive, top=2, exact=exact), student, teacher)


def test_the_order_of_the_best_counts_only_where_it_is_exact() -> None:
    student, teacher = torch.tensor([[4.0, 1.0, 2.0]]), torch.tensor([[9.0, 8.0, 0.0]])
    turned = torch.tensor([[8.0, 9.0, 0.0]])
    loose, exact = partial(easy_to_hard, top=2), partial(easy_to_hard, top=2, exact=True)
    assert loose(student, teacher).item() == loose(student, turned).item()
    assert exact(student, teacher).item() < exact(student, turned).item()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(partial(easy_to_hard, top=2), *drawn(3, 5))
    ignores_the_order_of_rows(partial(easy_to_hard, top=2), *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(partial(easy_to_hard, top=1))
    stays_finite(partial(easy_to_hard, exact=True))


def test_the_discrepancy_is_0_for_one_list_and_1_for_another() -> None:
    teacher = apart(4, 20)
    assert discrepancy(2 * teacher, teacher, top=5).tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    assert discrepancy(-teacher, teacher, top=5).tolist() == [1.0] * 4
    turned = discrepancy(torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]]), top=2).item()
    gain = [1.0, 2 ** math.exp(-0.1) - 1]
    wanted = 1 - (gain[1] + gain[0] / math.log2(3)) / (gain[0] + gain[1] / math.log2(3))
    assert turned == pytest.approx(wanted, rel=1e-5)


def trained(term: EasyToHard, student: Tensor, stages: list[Tensor]) -> float:
    teacher: Any = {f"scores.{i}": stage for i, stage in enumerate(stages)}
    return float(term({"scores": student}, teacher, {}))


def test_the_next_stage_is_entered_when_the_student_has_come_near_it() -> None:
    easy, middle, hard = (apart(6, 40, seed) for seed in range(3))
    term = EasyToHard(top=5, sampled=EVERY, mask_seen=False, memory=0.0)
    stages = [easy, middle, hard]
    first = trained(term, easy, stages)
    assert int(term.stage) == 0
    assert first == pytest.approx(sum(naive(easy, easy, 5, False)) / 6, rel=1e-5)
    trained(term, middle, stages)  # as near to the middle one as can be
    assert int(term.stage) == 1
    trained(term, easy, stages)
    last = trained(term, hard, stages)
    assert int(term.stage) == 2
    assert last == pytest.approx(sum(naive(hard, hard, 5, True)) / 6, rel=1e-5)
    other = EasyToHard(top=5, sampled=EVERY, mask_seen=False, memory=0.0)
    other.load_state_dict(term.state_dict())
    assert trained(other, easy, stages) == trained(term, easy, stages)


def test_stages_may_be_stored_as_candidates() -> None:
    student, easy, hard = apart(3, 6, 2), apart(3, 6, 0), apart(3, 6, 1)
    ids = torch.arange(6).flip(0).repeat(3, 1)
    stored: Any = {}
    for name, stage in (("scores.0", easy), ("scores.1", hard)):
        stored |= {f"{name}.ids": ids, f"{name}.values": stage.gather(1, ids)}
    term = EasyToHard(top=2, mask_seen=False)
    found = term({"scores": student}, stored, {})
    assert found.item() == pytest.approx(trained(EasyToHard(top=2, mask_seen=False), student, [easy, hard]), rel=1e-6)


def test_nothing_moves_while_it_is_not_trained() -> None:
    easy, hard = apart(6, 40, 0), apart(6, 40, 1)
    term = EasyToHard(top=5, mask_seen=False, memory=0.0).eval()
    trained(term, easy, [easy, hard])
    trained(term, hard, [easy, hard])
    assert int(term.stage) == 0
    assert float(term.entered) == -1.0


def test_one_ranking_alone_is_the_last_stage_and_keeps_the_contract() -> None:
    student, teacher = drawn(3, 6)
    targets = torch.tensor([[1, 4], [0, -1], [-1, -1]])
    masked = teacher.clone()
    masked[[0, 0, 1], [1, 4, 0]] = -math.inf
    found = EasyToHard()({"scores": student}, {"scores": teacher}, {"targets": targets})
    assert found.item() == pytest.approx(sum(naive(student, masked, 50, True)) / 3, rel=1e-5)
    check_loss(EasyToHard())


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="nearer is 1"):
        EasyToHard(nearer=1.0)
    with pytest.raises(UserError, match="memory 1"):
        EasyToHard(memory=1.0)
    with pytest.raises(UserError, match="top is 0"):
        EasyToHard(top=0)
