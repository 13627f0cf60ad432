"""Alpha-beta divergence: forward and reverse KL as the two ends, with two dials between them."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from limbeck.divergence import FLOOR, Divergence, softened
from limbeck.errors import UserError
from limbeck.setting import at_least_zero


def alpha_beta(
    student: Tensor, teacher: Tensor, *, alpha: float = 0.2, beta: float = 0.7, temperature: float = 1.0
) -> Tensor:
    """-T^2 / (a b) * sum (p^a q^b - a / (a + b) p^(a + b) - b / (a + b) q^(a + b)).

    At the ends it is the limit: with b = 0, T^2 / a^2 * sum (p^a log(p^a / q^a) - p^a + q^a), which for a = 1 is
    forward KL; with a = 0 the same with p and q, a and b exchanged, which for b = 1 is reverse KL.

    Args:
        student: raw logits of q, (B, C).
        teacher: raw logits of p, (B, C); no gradient reaches them. With a = 0, a class it rules out with -inf,
            or finds less likely than 1e-38, counts as that likely.
        alpha: a >= 0; the greater, the more the classes weigh that the student gets wrong by far.
        beta: b >= 0, a + b > 0; the greater, the more the classes weigh that the student is sure of.
        temperature: T > 0.

    Returns:
        (B,), without unit; nats at the two ends.

    Source: Wang et al. 2025 (ABKD), after Cichocki et al. 2011; defaults as in the authors' code
    for instruction following (pictures: 0.9 and 0.2 or so). Negative a or b, for which a student's 1e-30 is
    a loss of 1e30, are left out; T^2 is ours.

    >>> import torch
    >>> round(alpha_beta(torch.tensor([[0.0, -1e4]]), torch.zeros(1, 2), alpha=1.0, beta=1.0).item(), 4)
    0.25
    """
    q_log, p_log = softened(student, teacher, temperature)
    if beta == 0:
        return temperature**2 * _limit(p_log, q_log, alpha)
    if alpha == 0:
        return temperature**2 * _limit(q_log, p_log.clamp(min=FLOOR), beta)
    both = alpha + beta
    apart = alpha / both * (both * p_log).exp() + beta / both * (both * q_log).exp()
    return temperature**2 / (alpha * beta) * (apart - (alpha * p_log + beta * q_log).exp()).sum(-1)


def _limit(first_log: Tensor, other_log: Tensor, power: float) -> Tensor:
    first = (power * first_log).exp()
    return (first * power * (first_log - other_log) - first + (power * other_log).exp()).sum(-1) / power**2


class AlphaBeta(Divergence):
    """Where neither `kl` nor `reverse_kl` fits and two more numbers can be searched for.

    | reads | from |
    |---|---|
    | `logits` (B, C) or (B, T, C), or `logits.ids`, `.values` (.., K) and `.tail` | teacher |
    | `logits` (B, C) or (B, T, C) | student |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        alpha: 0 or more; the greater, the more the classes weigh that the student gets wrong by far.
        beta: 0 or more, and not both 0; the greater, the more the classes weigh that the student is sure of.
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Wang et al. 2025"

    def __init__(
        self, *, alpha: float = 0.2, beta: float = 0.7, temperature: float = 1.0, signal: str = "logits"
    ) -> None:
        super().__init__(temperature=temperature, signal=signal)
        self.alpha = at_least_zero("alpha", alpha)
        self.beta = at_least_zero("beta", beta)
        if alpha + beta == 0:
            raise UserError("alpha and beta are both 0; at least one must be above")

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The divergence a row."""
        return alpha_beta(student, teacher, alpha=self.alpha, beta=self.beta, temperature=self.temperature)
