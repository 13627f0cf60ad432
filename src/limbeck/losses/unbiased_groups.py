"""Unbiased groups: the teacher's order is learnt among items that are equally popular."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.candidate import ListTerm, at, best, listed
from limbeck.setting import above_zero, one_or_more


def unbiased_groups(student: Tensor, teacher: Tensor, group: Tensor, *, top: int = 40, decay: float = 20.0) -> Tensor:
    """Mean over groups, and within one over pairs (i above j by the teacher), of -log sigma(s_i - s_j).

    A pair weighs exp(-(k_i + k_j) / decay), k the rank within the group: what pairs drawn by rank do on average.
    Items of different popularity are never compared, so the teacher's liking for what is popular is not handed on.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M); -inf where an item is left out; no gradient reaches them.
        group: of each item, from 0, (M,) or (B, M).
        top: how many of each group's best items are compared, 1 or more.
        decay: of the weight by rank, above 0.

    Returns:
        (B,), nats; 0 for a row without a pair.

    Source: Chen et al. 2023 (UnKD), section 4, with all pairs of the best at their chances in place of some drawn,
    and groups that count alike.

    >>> student, teacher = torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([[2.0, 1.0, 0.0]])
    >>> round(unbiased_groups(student, teacher, torch.tensor([0, 0, 1])).item(), 4)  # log 2
    0.6931
    """
    theirs = teacher.detach().float()
    place = torch.arange(min(top, theirs.shape[1]), device=theirs.device)
    weight = torch.exp(-(place.unsqueeze(1) + place) / decay).triu(1)
    total, count = torch.zeros_like(theirs[:, 0]), torch.zeros_like(theirs[:, 0])
    for one in torch.unique(group).tolist():
        first = _best_of(theirs, group == one, top)
        scores, there = at(student, first), first >= 0
        pair = weight[: first.shape[1], : first.shape[1]] * (there.unsqueeze(2) & there.unsqueeze(1))
        losses = functional.softplus(scores.unsqueeze(1) - scores.unsqueeze(2))
        mass = pair.sum((1, 2))
        total = total + (losses * pair).sum((1, 2)) / mass.clamp(min=1e-30)
        count = count + (mass > 0)
    return total / count.clamp(min=1)


def _best_of(teacher: Tensor, member: Tensor, top: int) -> Tensor:
    """Places of the best of some items, the same for all rows, (M,), or each row's own, (B, M)."""
    if member.ndim > 1:
        return best(teacher.masked_fill(~member, float("-inf")), top)
    items = member.nonzero().squeeze(1)
    first = best(teacher[:, items], top)
    return torch.where(first >= 0, items[first.clamp(min=0)], -1)


def by_popularity(counts: Tensor, groups: int) -> Tensor:
    """Groups of items that were wanted equally often in sum, from the most popular, 0, down.

    Args:
        counts: how often each item was wanted, (N,).
        groups: how many at most.

    Returns:
        (N,).

    >>> by_popularity(torch.tensor([1.0, 4.0, 1.0, 2.0, 0.0]), 2).tolist()
    [1, 0, 1, 1, 1]
    """
    order = counts.argsort(dim=0, descending=True, stable=True)
    before = counts[order].cumsum(0) - counts[order]
    found = (groups * before / counts.sum().clamp(min=1e-30)).long().clamp(max=groups - 1)
    return torch.empty_like(found).scatter_(0, order, found)


class UnbiasedGroups(ListTerm):
    """For teachers that push what is popular, where the tail matters; prefer `relaxed_ranking` where it does not.

    How popular items are is counted from the targets of the rows that go by, so groups settle in the first epoch.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), padded with -1 | batch |

    Args:
        groups: of items, by popularity.
        top: how many of each group's best are compared.
        decay: of a pair's weight by rank.
    """

    paper: ClassVar[str] = "Chen et al. 2023"
    popularity: Tensor

    def __init__(
        self, *, groups: int = 4, top: int = 40, decay: float = 20.0, mask_seen: bool = True, signal: str = "scores"
    ) -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)
        self.groups = one_or_more("groups", groups)
        self.top = one_or_more("top", top)
        self.decay = above_zero("decay", decay)
        self.register_buffer("popularity", torch.zeros(0))

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """A count for each item."""
        scores = student[self.signal]
        self.popularity = torch.zeros(scores.shape[1], device=scores.device)

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        if self.training:
            targets = batch["targets"]
            weight = batch.get("weight", torch.ones_like(targets[:, 0])).float().unsqueeze(1)
            wanted = (weight * (targets >= 0)).flatten()
            self.popularity.index_add_(0, targets.clamp(min=0).flatten(), wanted)
        return self.losses(*listed(student, teacher, signal=self.signal, seen=self.seen(batch)))

    def losses(self, student: Tensor, teacher: Tensor, ids: Tensor | None = None) -> Tensor:
        """Nats a row."""
        group = by_popularity(self.popularity, self.groups)
        if ids is not None:
            group = group[ids.clamp(min=0)]
        return unbiased_groups(student, teacher, group, top=self.top, decay=self.decay)
