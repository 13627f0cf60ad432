"""Hinton's soft-label loss: the student's softened distribution follows the teacher's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.objective import Term


def kl(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)).

    Args:
        student: raw logits, (B, C).
        teacher: raw logits, (B, C); -inf is a class the teacher rules out; no gradient reaches them.
        temperature: T > 0.

    Returns:
        Scalar, nats, mean over B.

    Source: Hinton, Vinyals, Dean 2015, section 2. `torch.nn.KLDivLoss` with `reduction="mean"` also
    divides by C, and leaves T^2 to the caller.

    >>> kl(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 4.0]])).item()
    0.0
    """
    p_log = torch.log_softmax(teacher.detach().float() / temperature, 1)
    q_log = torch.log_softmax(student.float() / temperature, 1)
    p = p_log.exp()
    return temperature**2 * torch.where(p > 0, p * (p_log - q_log), 0.0).sum(1).mean()


def kl_with_tail(student: Tensor, ids: Tensor, values: Tensor, tail: Tensor, *, temperature: float = 4.0) -> Tensor:
    """The same divergence over K named classes and one bucket for all the others.

    Merging classes can only lower a divergence, so this is a lower bound of `kl`, tight where the
    tail is light; renormalising the K entries instead would teach that the tail does not exist.

    Args:
        student: raw logits, (B, C).
        ids: the named classes, (B, K), -1 where padded.
        values: the teacher's raw logits there, (B, K).
        tail: the teacher's mass outside them at this temperature, (B,), in [0, 1].
        temperature: T > 0.

    Returns:
        Scalar, nats, mean over B.
    """
    there = ids >= 0
    safe = ids.clamp(min=0)
    low = torch.finfo(torch.float32).min / 4
    tail = tail.float().clamp(0.0, 1.0)
    p_log = torch.log_softmax((values.detach().float() / temperature).masked_fill(~there, low), 1)
    p_log = p_log + torch.log1p(-tail.clamp(max=1 - 1e-7)).unsqueeze(1)
    scaled = student.float() / temperature
    whole = torch.logsumexp(scaled, 1, keepdim=True)
    q_log = scaled.gather(1, safe) - whole
    # A spare column takes the padding, so that class 0 is not struck out by it.
    named = torch.zeros(scaled.shape[0], scaled.shape[1] + 1, dtype=torch.bool, device=scaled.device)
    named = named.scatter(1, ids.where(there, scaled.shape[1]), True)[:, :-1]
    q_tail = torch.logsumexp(scaled.masked_fill(named, low), 1) - whole.squeeze(1)
    head = torch.where(there & (p_log > low / 2), p_log.exp() * (p_log - q_log), 0.0).sum(1)
    rest = torch.where(tail > 0, tail * (tail.clamp(min=1e-30).log() - q_tail.clamp(min=-1e4)), 0.0)
    return temperature**2 * (head + rest).mean()


class Kl(Term):
    """Plain knowledge distillation.

    | reads | from |
    |---|---|
    | `logits` (B, C), or `logits.ids`, `.values` (B, K) and `.tail` | teacher |
    | `logits` (B, C) | student |

    Args:
        temperature: T; higher shows more of how the teacher ranks the wrong classes.
        signal: the name of the logits.
    """

    def __init__(self, *, temperature: float = 4.0, signal: str = "logits") -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f"temperature is {temperature}; it must be above 0")
        self.temperature = temperature
        self.signal = signal

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, nats, mean over B."""
        logits = student[self.signal]
        if f"{self.signal}.ids" not in teacher:
            return kl(logits, teacher[self.signal], temperature=self.temperature)
        kept: tuple[float, ...] = getattr(teacher, "tail_temperatures", ())
        if self.temperature not in kept:
            raise UserError(
                f"the stored top-k knowledge has its tail at temperatures {list(kept)}, not {self.temperature}; "
                "label again with this temperature"
            )
        tail = teacher[f"{self.signal}.tail"][:, kept.index(self.temperature)]
        ids, values = teacher[f"{self.signal}.ids"].long(), teacher[f"{self.signal}.values"]
        return kl_with_tail(logits, ids, values, tail, temperature=self.temperature)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's distribution (B, C), not softened: a fitted student answers what it was fitted to."""
        if self.signal not in teacher:
            return None
        return torch.softmax(teacher[self.signal].float(), 1)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Its own."""
        return (self.temperature,)
