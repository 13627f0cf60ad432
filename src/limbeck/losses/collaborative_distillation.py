"""Collaborative distillation: the teacher's log-odds, softened, as labels of items drawn from its top."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.candidate import ListTerm, at, best, drawn
from limbeck.setting import above_zero, one_or_more


def collaborative_distillation(
    student: Tensor,
    teacher: Tensor,
    *,
    top: int = 100,
    sampled: int = 50,
    offset: float = 0.0,
    temperature: float = 2.0,
) -> Tensor:
    """-sum_i [p_i log sigma(s_i) + (1 - p_i) log(1 - sigma(s_i))], p_i = sigma((t_i + offset) / temperature).

    The items i are drawn from the teacher's best with a chance that falls with the rank k, as exp(-k / top).

    Args:
        student: scores as log-odds, (B, M).
        teacher: scores, (B, M); -inf where an item is left out; no gradient reaches them.
        top: how many of the best are drawn from, 1 or more.
        sampled: how many are drawn at every call, 1 or more.
        offset: added to the teacher's scores, so that they are log-odds about 0.
        temperature: of the labels only, above 0; the student is not softened, so there is no T^2.

    Returns:
        (B,), nats, summed over the items drawn.

    Source: Lee, Choi, Lee, Shim 2019 (ICDM), as others have it in code: their student-guided variant would draw
    from the student's best instead.

    >>> round(collaborative_distillation(torch.zeros(1, 1), torch.zeros(1, 1)).item(), 4)
    0.6931
    """
    theirs = teacher.detach().float()
    first = best(theirs, top)
    chance = -torch.arange(first.shape[1], device=first.device) / first.shape[1]
    chosen = drawn(chance.expand(first.shape).masked_fill(first < 0, float("-inf")), sampled)
    items = first.gather(1, chosen.clamp(min=0)).masked_fill(chosen < 0, -1)
    label = torch.sigmoid((at(theirs, items).masked_fill(items < 0, 0.0) + offset) / temperature)
    losses = functional.binary_cross_entropy_with_logits(at(student, items), label, reduction="none")
    return torch.where(items >= 0, losses, 0.0).sum(1)


class CollaborativeDistillation(ListTerm):
    """For students and teachers whose scores are log-odds; prefer `ranking_distillation` beside one that only ranks.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many of the teacher's best are drawn from.
        sampled: how many are drawn at every step.
        offset: added to the teacher's scores, so that they are log-odds about 0.
        temperature: of the labels made of them.
    """

    paper: ClassVar[str] = "Lee et al. 2019"

    def __init__(
        self,
        *,
        top: int = 100,
        sampled: int = 50,
        offset: float = 0.0,
        temperature: float = 2.0,
        mask_seen: bool = True,
        signal: str = "scores",
    ) -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)
        self.offset = offset
        self.temperature = above_zero("temperature", temperature)

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return collaborative_distillation(
            student, teacher, top=self.top, sampled=self.sampled, offset=self.offset, temperature=self.temperature
        )
