"""Soft binary cross-entropy: each output on its own follows the teacher's probability of yes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.divergence import tempered
from limbeck.setting import above_zero
from limbeck.slope import sloped
from limbeck.steps import StepTerm, by_step

LEAST = -1e30


def soft_binary(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """T^2 * mean over outputs of -(p log q + (1 - p) log(1 - q)), p and q sigmoid of the logits over T.

    Args:
        student: raw logits of q, (B,) or (B, C), one for each yes-or-no question.
        teacher: raw logits of p, of the same shape; -inf is a certain no; no gradient reaches them.
        temperature: T > 0.

    Returns:
        (B,), nats; at best the teacher's own entropy, times T^2.

    Source: Hinton et al. 2015, section 2, for outcomes that do not exclude one another, as Zhu et al. 2020
    (ensembled CTR prediction, T = 1) use it.

    >>> round(soft_binary(torch.zeros(1, 1), torch.full((1, 1), -torch.inf)).item(), 4)
    0.6931
    """
    outputs = [x.reshape(len(x), -1) for x in (student, teacher)]

    def losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        mine = tempered(student, temperature).clamp(min=LEAST)  # a certain no of both must not be 0 times infinity
        p = tempered(teacher, temperature).to(mine.dtype).sigmoid()
        wrong = functional.softplus(mine).addcmul_(p, mine, value=-1)
        # Of T times the sum, by the logits as given; written where memory is at hand, for fetching new takes longer,
        # and `mine` is a copy.
        return temperature * wrong.sum(1), lambda: mine.sigmoid_().sub_(p)

    return temperature / max(outputs[0].shape[1], 1) * sloped(losses)(*outputs)


class SoftBinary(StepTerm):
    """For several labels at once, and for clicks and purchases; where one class excludes the others take `kl`.

    | reads | from |
    |---|---|
    | `logits` (B,) or (B, C) or (B, T, C) | student, teacher |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Hinton et al. 2015"

    def __init__(self, *, temperature: float = 1.0, signal: str = "logits") -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row, over its steps."""
        both = [student[self.signal], teacher[self.signal]]
        return by_step(lambda s, t: soft_binary(s, t, temperature=self.temperature), both, batch)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's probabilities of yes, (B, C), not softened."""
        return torch.sigmoid(teacher[self.signal].float()) if self.signal in teacher else None
