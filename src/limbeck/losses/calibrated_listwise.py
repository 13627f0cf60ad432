"""Calibrated listwise: chances of a click, as shares of their list, follow the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.bucketed import LOW
from limbeck.candidate import ListTerm
from limbeck.divergence import FLOOR, of_relative_entropy
from limbeck.slope import sloped, wide


def calibrated_listwise(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(p || q), p_i = sigma(t_i) / sum_j sigma(t_j), q_i = sigma(s_i) / sum_j sigma(s_j), over a list.

    Shares of a softmax would be least wrong for scores shifted by any constant, so that the chances lose their
    meaning; these are least wrong where the chances themselves are the teacher's, up to a factor a list.

    Args:
        student: log-odds, (B, M).
        teacher: log-odds, (B, M); -inf where an item is left out; no gradient reaches them.

    Returns:
        (B,), nats; 0 for a row with no item left.

    Source: Gui et al. 2023 (CLID, arXiv 2312.08727), whose listwise loss is the cross-entropy of these shares;
    the divergence differs from it by a constant. The form is that of Bai et al. 2023 (regression compatible
    listwise) with a teacher in place of clicks.

    >>> calibrated_listwise(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]])).item()
    0.0
    """
    return sloped(_losses)(student, teacher)


def _losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    mine, out = wide(student), torch.isneginf(teacher)
    q_log = torch.log_softmax(functional.logsigmoid(mine).masked_fill_(out, LOW), 1)
    # A logsigmoid of -inf is -inf.
    p_log = torch.log_softmax(functional.logsigmoid(teacher.to(mine.dtype)).clamp_(min=LOW), 1).clamp_(min=FLOOR)
    loss, slope = of_relative_entropy(q_log, p_log)

    def down() -> Tensor:
        found = slope()
        return found.addcmul_(found, torch.sigmoid(mine), value=-1)  # the slope of log sigma(s) is 1 - sigma(s)

    return loss, down


class CalibratedListwise(ListTerm):
    """For click models whose chances are bid on: the order of a page from a teacher that sees more.

    Use it beside the hard loss, which keeps the level; prefer `listwise_kl` where scores only rank. A row is one
    page or session with its list.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        mask_seen: leave out the row's own targets; not where these are the clicks of the page.
    """

    paper: ClassVar[str] = "Gui et al. 2023"

    def __init__(self, *, mask_seen: bool = False, signal: str = "scores") -> None:
        super().__init__(mask_seen=mask_seen, signal=signal)

    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return calibrated_listwise(student, teacher)
