"""Relaxed ranking: the teacher's best items in their order, above others whose order does not matter."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from limbeck.candidate import ListTerm, best, ordered, others
from limbeck.setting import one_or_more


def relaxed_ranking(student: Tensor, teacher: Tensor, *, top: int = 40, sampled: int = 40) -> Tensor:
    """-sum_k [s_pi_k - log(sum_{j >= k} e^{s_pi_j} + sum_{u in U} e^{s_u})], pi the teacher's best, U others.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M); -inf where an item is left out; no gradient reaches them.
        top: how many of the best, K, 1 or more.
        sampled: how many of the others, drawn evenly at every call, 1 or more.

    Returns:
        (B,), nats, summed over K.

    Source: Kang et al. 2020 (DE-RRD), equation 8. There pi is drawn anew every epoch from a longer list; here it
    is the best K as they stand, which the authors found to be better later.

    >>> import torch
    >>> found = relaxed_ranking(torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 0.0]]), top=1)
    >>> round(found.item(), 4)  # log 3
    1.0986
    """
    theirs = teacher.detach().float()
    first = best(theirs, top)
    return ordered(student, first, others(theirs, first, sampled))


class RelaxedRanking(ListTerm):
    """For a ranker whose top should be exact; prefer `listwise_kl` where the teacher's scores mean something.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many of the best are ranked; with stored candidates no more than were kept as best.
        sampled: how many of the others they stand above.
    """

    paper: ClassVar[str] = "Kang et al. 2020"

    def __init__(
        self,
        *,
        top: int = 40,
        sampled: int = 40,
        mask_seen: bool = True,
        signal: str = "scores",
    ) -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return relaxed_ranking(student, teacher, top=self.top, sampled=self.sampled)
