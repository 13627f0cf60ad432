"""Ranking distillation: the teacher's best items are taught as if they had been bought."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.candidate import ListTerm, at, best, others
from limbeck.setting import above_zero, one_or_more


def ranking_distillation(
    student: Tensor, teacher: Tensor, *, top: int = 10, sampled: int = 100, decay: float = 1.0, sharpness: float = 0.1
) -> Tensor:
    """-sum_k w_k log sigma(s_pi_k), w_k = exp(-(k + 1) / decay) / Z * tanh(sharpness * max(r_k - k, 0)).

    pi_k is the teacher's k-th item and r_k its rank by the student, both from 0: an item that the student
    already ranks as high as the teacher teaches nothing. r_k is estimated on items drawn evenly from the list.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M); -inf where an item is left out; no gradient reaches them.
        top: how many of the best, 1 or more.
        sampled: items on which a rank is estimated, 1 or more; exact where a row has no more.
        decay: of the weight by position, above 0; small keeps to the very top.
        sharpness: of the weight by distance in rank, above 0.

    Returns:
        (B,), nats, summed over the list.

    Source: Tang and Wang 2018 (Ranking Distillation), equations 7 to 9, with the defaults of the authors' code,
    which turns the second weight on only after 50 epochs; while the student knows nothing it is 1 anyway.

    >>> found = ranking_distillation(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    >>> found.item()  # in a tie no item stands above, so nothing is out of place
    0.0
    """
    theirs = teacher.detach().float()
    first = best(theirs, top)
    there = first >= 0
    scores = at(student, first)
    with torch.no_grad():
        seen = others(theirs, first[:, :0], sampled)
        above = (at(student, seen).unsqueeze(1) > scores.unsqueeze(2)) & (seen >= 0).unsqueeze(1)
        left = (~torch.isneginf(theirs)).sum(1, keepdim=True)
        rank = left * above.sum(2) / (seen >= 0).sum(1, keepdim=True).clamp(min=1)
        place = torch.arange(first.shape[1], device=scores.device)
        position = torch.exp(-(place + 1) / decay) * there
        position = position / position.sum(1, keepdim=True).clamp(min=1e-30)
        weight = position * torch.tanh(sharpness * (rank.floor() - place).clamp(min=0))
    return (weight * functional.softplus(-scores)).sum(1)


class RankingDistillation(ListTerm):
    """For students trained with a pointwise loss, whose scores are log-odds; prefer `relaxed_ranking` else.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many of the teacher's best are taught.
        sampled: items on which the student's rank of each is estimated.
        decay: of the weight by position; small keeps to the very top.
        sharpness: of the weight by how far below the teacher's the student's rank is.
    """

    paper: ClassVar[str] = "Tang and Wang 2018"

    def __init__(
        self,
        *,
        top: int = 10,
        sampled: int = 100,
        decay: float = 1.0,
        sharpness: float = 0.1,
        mask_seen: bool = True,
        signal: str = "scores",
    ) -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)
        self.decay = above_zero("decay", decay)
        self.sharpness = above_zero("sharpness", sharpness)

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return ranking_distillation(
            student, teacher, top=self.top, sampled=self.sampled, decay=self.decay, sharpness=self.sharpness
        )
