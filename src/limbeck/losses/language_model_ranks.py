"""A language model's ranks: its few named items as positives, weighed by how far it may be believed in each."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.candidate import ListTerm, at, best, others
from limbeck.errors import UserError
from limbeck.setting import above_zero, at_least_zero, one_or_more


def trust(
    student: Tensor, teacher: Tensor, first: Tensor, *, shares: tuple[float, float, float], decay: float
) -> Tensor:
    """How much each of the teacher's best items counts, (B, K), adding to 1.

    The sum, by `shares`, of three weights: by place, exp(-(k + 1) / decay), made to add to 1; by confidence, the
    softmax of the teacher's scores; and by agreement, 1 where the item is among the student's best K too.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M), as the logarithm of a confidence, such as minus a distance of embeddings.
        first: places of the best, (B, K), padded with -1.
        shares: of place, confidence and agreement.
        decay: of the weight by place.
    """
    there = first >= 0
    place = torch.exp(-(torch.arange(first.shape[1], device=first.device) + 1) / decay) * there
    place = place / place.sum(1, keepdim=True).clamp(min=1e-30)
    confidence = torch.softmax(at(teacher, first).masked_fill(~there, torch.finfo(torch.float32).min), 1) * there
    own = best(student.detach().float().masked_fill(torch.isneginf(teacher), float("-inf")), first.shape[1])
    agreed = ((first.unsqueeze(2) == own.unsqueeze(1)).any(2) & there).float()
    weight = shares[0] * place + shares[1] * confidence + shares[2] * agreed
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-30)


def language_model_ranks(
    student: Tensor,
    teacher: Tensor,
    *,
    top: int = 10,
    sampled: int = 1,
    shares: tuple[float, float, float] = (0.3, 0.5, 0.1),
    decay: float = 1.0,
) -> Tensor:
    """-sum_k w_k log sigma(s_pi_k) - mean_u log sigma(-s_u), w as `trust` has it.

    Args:
        student: scores as log-odds, (B, M).
        teacher: scores, (B, M), as the logarithm of a confidence; -inf where the model names nothing; no gradient
            reaches them.
        top: how many of the named items, K, 1 or more.
        sampled: how many of the items it names, but not among its best, or of all that are left, count against, U.
        shares: of place, confidence and agreement in the weights, 0 or more, not all 0.
        decay: of the weight by place, above 0.

    Returns:
        (B,), nats.

    Source: Cui et al. 2024 (DLLM2Rec), section 3.2, with the shares of the authors' code; there a negative's loss
    is taken of 1 - s, here of -s, which is the logistic loss.

    >>> round(language_model_ranks(torch.zeros(1, 1), torch.zeros(1, 1)).item(), 4)
    0.6931
    """
    theirs = teacher.detach().float()
    first = best(theirs, top)
    weight = trust(student, theirs, first, shares=shares, decay=decay)
    rest = others(theirs, first, sampled)
    against = functional.softplus(at(student, rest)) * (rest >= 0)
    wanted = (weight * functional.softplus(-at(student, first))).sum(1)
    return wanted + against.sum(1) / (rest >= 0).sum(1).clamp(min=1)


class LanguageModelRanks(ListTerm):
    """For a language model as teacher: it names good items, in an order, and with scores, that are to be doubted.

    Beside a teacher whose scores can be trusted prefer `listwise_kl`. The source also adds the model's item
    embeddings to the student's own: that is `cosine_embedding` on the two, tapped.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many of the named items are taught.
        sampled: how many of the others count against.
        shares: of place, confidence and agreement with the student in the weights.
        decay: of the weight by place; small keeps to the very top.
    """

    paper: ClassVar[str] = "Cui et al. 2024"

    def __init__(
        self,
        *,
        top: int = 10,
        sampled: int = 1,
        shares: tuple[float, float, float] = (0.3, 0.5, 0.1),
        decay: float = 1.0,
        mask_seen: bool = True,
        signal: str = "scores",
    ) -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)
        self.shares = shares
        for share in shares:
            at_least_zero("shares", share)
        if not sum(shares) > 0:
            raise UserError(f"shares are {list(shares)}; one must be above 0")
        self.decay = above_zero("decay", decay)

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return language_model_ranks(
            student, teacher, top=self.top, sampled=self.sampled, shares=self.shares, decay=self.decay
        )
