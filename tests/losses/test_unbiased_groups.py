import math
from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.unbiased_groups import UnbiasedGroups, by_popularity, unbiased_groups
from limbeck.testing import check_loss
from tests.losses.laws import (
    SHAPES,
    apart,
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)


def naive(student: Tensor, teacher: Tensor, group: Tensor, top: int = 40, decay: float = 20.0) -> list[float]:
    """Group by group, pair by pair."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        losses = []
        for one in sorted(set(group.tolist())):
            members = [i for i in range(len(t)) if group[i] == one and t[i] > -math.inf]
            order = sorted(members, key=lambda i: -t[i])[:top]
            pairs = [(a, b) for a in range(len(order)) for b in range(a + 1, len(order))]
            weights = [math.exp(-(a + b) / decay) for a, b in pairs]
            costs = [math.log(1 + math.exp(s[order[b]] - s[order[a]])) for a, b in pairs]
            if pairs:
                losses.append(sum(w * c for w, c in zip(weights, costs, strict=True)) / sum(weights))
        rows.append(sum(losses) / len(losses) if losses else 0.0)
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("top", [2, 40])
def test_equal_to_a_sum_over_pairs_within_groups(shape: tuple[int, int], top: int) -> None:
    (student,), teacher = drawn(*shape, count=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    group = torch.arange(shape[1]) % 3
    equals_naive(partial(unbiased_groups, top=top), partial(naive, top=top), student, teacher, group)


def test_raising_a_whole_group_changes_nothing() -> None:
    student, teacher = drawn(3, 8)
    group = torch.arange(8) // 4
    raised = student + 5 * group
    torch.testing.assert_close(unbiased_groups(raised, teacher, group), unbiased_groups(student, teacher, group))


def test_groups_of_one_item_have_no_pair() -> None:
    student, teacher = drawn(2, 4)
    assert unbiased_groups(student, teacher, torch.arange(4)).tolist() == [0.0, 0.0]
    assert not gradient(lambda s, t: unbiased_groups(s, t, torch.arange(4)), student, teacher).any()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    loss = partial(unbiased_groups, group=torch.tensor([0, 1, 0, 1, 0]))
    only_the_student_learns(loss, *drawn(3, 5))
    ignores_the_order_of_rows(loss, *drawn(6, 5))


def test_extremes_stay_finite() -> None:
    stays_finite(lambda s, t: unbiased_groups(s, t, torch.arange(s.shape[1]) % 2))


def test_groups_were_wanted_equally_often_in_sum() -> None:
    counts = torch.tensor([8.0, 1.0, 1.0, 4.0, 1.0, 1.0])
    assert by_popularity(counts, 2).tolist() == [0, 1, 1, 1, 1, 1]
    assert by_popularity(counts, 4).tolist() == [0, 3, 3, 2, 3, 3]
    assert by_popularity(torch.zeros(3), 4).tolist() == [0, 0, 0]


def test_popularity_is_counted_while_training_and_kept_in_the_state() -> None:
    student, teacher = drawn(3, 6)
    targets = torch.tensor([[1, 4], [1, -1], [-1, -1]])
    said = {"scores": student}, {"scores": teacher}, {"targets": targets}
    term = UnbiasedGroups()
    term.size(*said)
    term(*said)
    term(*said)
    assert term.popularity.tolist() == [0, 4, 0, 0, 2, 0]
    term.eval()
    term(*said)
    assert term.state_dict()["popularity"].tolist() == [0, 4, 0, 0, 2, 0]
    check_loss(UnbiasedGroups())


def test_stored_candidates_bring_their_own_groups() -> None:
    student, teacher = drawn(3, 6)
    said = {"targets": torch.tensor([[1, 4], [1, -1], [-1, -1]])}
    ids = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(i)) for i in range(3)])
    stored = {"scores.ids": ids, "scores.values": teacher.gather(1, ids)}
    found = []
    for knowledge in ({"scores": teacher}, stored):
        term = UnbiasedGroups(groups=2)
        term.size({"scores": student}, knowledge, said)
        found.append(term({"scores": student}, knowledge, said).item())
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"groups": 0}, {"top": 0}, {"decay": 0.0}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} is 0"):
            UnbiasedGroups(**wrong)  # type: ignore[arg-type]
