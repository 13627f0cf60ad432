"""Item-side ranking: every item ranks the rows of a batch as it does by the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.candidate import best, listed, ordered, others
from limbeck.errors import UserError
from limbeck.setting import one_or_more
from limbeck.term import Term


def item_side_ranking(student: Tensor, teacher: Tensor, *, top: int = 40, sampled: int = 40) -> Tensor:
    """Mean over items of -sum_k [s_pi_k - log(sum_{j >= k} e^{s_pi_j} + sum_{u in U} e^{s_u})], pi its best rows.

    Args:
        student: scores, (B, N).
        teacher: scores, (B, N); -inf where a row does not count for an item; no gradient reaches them.
        top: how many of an item's best rows, 1 or more.
        sampled: how many of its other rows, drawn evenly at every call, 1 or more.

    Returns:
        Scalar, nats, summed over an item's best rows, mean over the items with two rows or more; 0 for one row.

    Source: the item-side regularisation of Kang, Hwang, Kweon, Yu 2021 (IR-RRD), written after its description:
    there an item's users are ranked among all, here among those of the batch.

    >>> found = item_side_ranking(torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]), top=1)
    >>> round(found.item(), 4)  # log 2
    0.6931
    """
    theirs = teacher.detach().float().T
    first = best(theirs, top)
    losses = ordered(student.T, first, others(theirs, first, sampled))
    many = (~torch.isneginf(theirs)).sum(1) > 1
    return (losses * many).sum() / many.sum().clamp(min=1)


class ItemSideRanking(Term):
    """Beside `relaxed_ranking`, for a student so small that it overfits to the rows' own lists.

    | reads | from |
    |---|---|
    | `scores` (B, N), of the whole catalogue | student, teacher |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many of an item's best rows are ranked.
        sampled: how many of its other rows they stand above.
        mask_seen: leave a row out for the items that are among its targets.
        signal: the name of the scores.
    """

    group: ClassVar[str] = "ranking"
    paper: ClassVar[str] = "Kang et al. 2021"

    def __init__(self, *, top: int = 40, sampled: int = 40, mask_seen: bool = True, signal: str = "scores") -> None:
        super().__init__()
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)
        self.mask_seen = mask_seen
        self.signal = signal

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, nats, mean over items; rows are compared with one another, so their weights do not count."""
        seen = batch["targets"] if self.mask_seen else None
        mine, theirs, ids = listed(student, teacher, signal=self.signal, seen=seen)
        if ids is not None:
            raise UserError("item_side_ranking needs the teacher's scores of all items; label without top-k")
        return item_side_ranking(mine, theirs, top=self.top, sampled=self.sampled)
