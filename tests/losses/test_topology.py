import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from limbeck.errors import UserError
from limbeck.losses.topology import Topology, topology
from limbeck.testing import check_loss
from tests.losses.laws import (
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)

TAPPED = {"student": "user", "teacher": "tower.user"}


def naive(student: Tensor, teacher: Tensor, group: Tensor | None = None) -> float:
    """Pair by pair."""

    def apart(i: Tensor, j: Tensor, k: Tensor, m: Tensor) -> float:
        return float(cosine_similarity(i, j, 0) - cosine_similarity(k, m, 0)) ** 2

    rows = range(len(student))
    kind = [0] * len(student) if group is None else group.tolist()
    near = [apart(student[i], student[j], teacher[i], teacher[j]) for i in rows for j in rows if kind[i] == kind[j]]
    if group is None:
        return sum(near) / len(near)
    far = []
    for one in sorted(set(kind)):
        members = [i for i in rows if kind[i] == one]
        mine, theirs = student[members].mean(0), teacher[members].mean(0)
        far += [apart(student[i], mine, teacher[i], theirs) for i in rows]
    return sum(near) / len(near) + sum(far) / len(far)


@pytest.mark.parametrize("shape", [(3, 5), (7, 41)])
def test_equal_to_a_sum_over_pairs(shape: tuple[int, int]) -> None:
    equals_naive(topology, naive, *drawn(*shape))
    equals_naive(topology, naive, *drawn(*shape), torch.arange(shape[0]) % 3 + 4)


def test_neither_scale_nor_turning_nor_width_matters() -> None:
    teacher, _ = drawn(5, 4)
    turned = torch.linalg.qr(drawn(9, 4, seed=3)[0])[0]
    assert topology(3 * teacher @ turned.T, teacher).item() == pytest.approx(0.0, abs=1e-6)


def test_rows_of_other_groups_are_compared_only_on_average() -> None:
    student, teacher = drawn(4, 6)
    group = torch.tensor([0, 0, 1, 1])
    alone = topology(student, teacher, torch.arange(4))  # each row its own group: near is each with itself
    both = [topology(student[:2], teacher[:2]).item(), topology(student[2:], teacher[2:]).item()]
    far = topology(student, teacher, group).item() - sum(both) / 2
    assert 0 < far < 4
    assert alone.item() == pytest.approx(topology(student, teacher).item(), rel=1e-5)


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(topology, *drawn(3, 5))
    ignores_the_order_of_rows(topology, *drawn(6, 5), torch.arange(6) % 2)


def test_extremes_one_row_and_rows_of_zeros_stay_finite() -> None:
    stays_finite(topology, ruled_out=False)
    assert torch.isfinite(gradient(topology, torch.zeros(3, 4), drawn(3, 4)[0])).all()
    assert topology(torch.ones(1, 3), torch.ones(1, 4)).item() == pytest.approx(0.0, abs=1e-6)


def test_it_keeps_the_contract_with_and_without_groups() -> None:
    check_loss(Topology(**TAPPED))
    check_loss(Topology(**TAPPED, groups=3))
    assert not list(Topology(**TAPPED).parameters())


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"groups": -1}, {"balance": 1.5}, {"gate_temperature": 0.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            Topology(**TAPPED, **wrong)  # type: ignore[arg-type]
