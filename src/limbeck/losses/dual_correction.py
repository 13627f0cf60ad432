"""Dual correction: items the student ranks too low are lifted above those it ranks too high."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from limbeck.candidate import ListTerm, drawn, ordered
from limbeck.setting import above_zero, one_or_more


def dual_correction(
    student: Tensor, teacher: Tensor, *, top: int = 40, sampled: int = 40, sharpness: float = 0.1
) -> Tensor:
    """-sum_k [s_u_k - log(sum_{j >= k} e^{s_u_j} + sum_o e^{s_o})], u ranked too low, o too high by the student.

    u is drawn in proportion to tanh(sharpness * max(r_s - r_t, 0)) and stands in the teacher's order, o in
    proportion to tanh(sharpness * max(r_t - r_s, 0)), where r_s and r_t are an item's ranks by each.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M); -inf where an item is left out; no gradient reaches them.
        top: how many items ranked too low, 1 or more.
        sampled: how many ranked too high, 1 or more.
        sharpness: of the chance by distance in rank, above 0.

    Returns:
        (B,), nats, summed over u; 0 where the student ranks as the teacher does.

    Source: Lee and Kim 2021 (DCD), on the side of users; written after the paper's description, as no code of the
    authors was at hand. Both sets are drawn at every call, the source draws them once an epoch.

    >>> dual_correction(torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0, 4.0]])).item()
    0.0
    """
    theirs = teacher.detach().float()
    out = torch.isneginf(theirs)
    with torch.no_grad():
        wanted = _ranks(theirs)
        distance = (_ranks(student.float().masked_fill(out, float("-inf"))) - wanted).masked_fill_(out, 0.0)
        low = drawn(torch.tanh(sharpness * distance.clamp(min=0)).log(), top)
        high = drawn(torch.tanh(sharpness * (-distance).clamp(min=0)).log(), sampled)
        rank = wanted.gather(1, low.clamp(min=0)).masked_fill(low < 0, theirs.shape[1])
        low = low.gather(1, rank.argsort(1))
    return ordered(student, low, high)


def _ranks(scores: Tensor) -> Tensor:
    """Each item's rank in its row, 0 the best, float32."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device, dtype=torch.float32)
    return torch.empty_like(order, dtype=torch.float32).scatter_(1, order, places.expand(order.shape))


class DualCorrection(ListTerm):
    """For the end of a training, when most items are in place; prefer `relaxed_ranking` at its start.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many items ranked too low are drawn.
        sampled: how many ranked too high.
        sharpness: of the chance to be drawn by distance in rank.
    """

    paper: ClassVar[str] = "Lee and Kim 2021"

    def __init__(
        self,
        *,
        top: int = 40,
        sampled: int = 40,
        sharpness: float = 0.1,
        mask_seen: bool = True,
        signal: str = "scores",
    ) -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)
        self.sharpness = above_zero("sharpness", sharpness)

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return dual_correction(student, teacher, top=self.top, sampled=self.sampled, sharpness=self.sharpness)
