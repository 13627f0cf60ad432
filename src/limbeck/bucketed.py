"""Top-k knowledge as logits: the named entries and one bucket for all the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.errors import UserError

LOW = -1e20
"""Stands for -inf where -inf minus -inf would be NaN; its exponential is exactly 0."""


def bucketed(
    student: Tensor, ids: Tensor, values: Tensor, tail: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Student and teacher over K named classes and one bucket, as logits.

    softmax(x / temperature) of what is returned are the two distributions with all classes but the K
    merged into one, so every loss between softened logits takes these as it takes whole ones, at this
    temperature. Merging classes can only lower a divergence: the loss is a lower bound, tight where the
    tail is light. Renormalising the K entries instead would teach that the tail does not exist.

    Args:
        student: raw logits, (B, C).
        ids: the named classes, (B, K), -1 where padded.
        values: the teacher's raw logits there, (B, K).
        tail: the teacher's mass outside them at this temperature, (B,), in [0, 1].
        temperature: T > 0.

    Returns:
        The student's and the teacher's logits, (B, K + 1), float32; the bucket is last.

    >>> student = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    >>> pair = bucketed(student, torch.tensor([[2]]), torch.tensor([[1.0]]), torch.tensor([0.5]), temperature=1.0)
    >>> [torch.softmax(x, 1).round(decimals=4).tolist() for x in pair]
    [[[0.25, 0.75]], [[0.5, 0.5]]]
    """
    there = ids >= 0
    tail = tail.detach().float().clamp(0.0, 1.0).unsqueeze(1)
    p_log = torch.log_softmax((values.detach().float() / temperature).masked_fill(~there, LOW), 1)
    p_log = (p_log + torch.log1p(-tail.clamp(max=1 - 1e-7))).masked_fill(~there, LOW)
    p_tail = torch.where(tail > 0, tail.clamp(min=1e-30).log(), LOW)
    scaled = student.float() / temperature
    whole = torch.logsumexp(scaled, 1, keepdim=True)
    q_log = (scaled.gather(1, ids.clamp(min=0)) - whole).masked_fill(~there, LOW)
    # A spare column takes the padding, so that class 0 is not struck out by it.
    named = torch.zeros(scaled.shape[0], scaled.shape[1] + 1, dtype=torch.bool, device=scaled.device)
    named = named.scatter(1, ids.where(there, scaled.shape[1]), True)[:, :-1]
    # Where no class is left over, rounding may still have left the teacher some tail: the price is bounded.
    q_tail = (torch.logsumexp(scaled.masked_fill(named, LOW), 1, keepdim=True) - whole).clamp(min=-1e4)
    return torch.cat([q_log, q_tail], 1) * temperature, torch.cat([p_log, p_tail], 1) * temperature


def tail_at(teacher: Mapping[str, Tensor], signal: str, temperature: float) -> Tensor:
    """The mass (B,) or (B, T) that top-k knowledge leaves outside its entries at this temperature.

    Raises:
        UserError: it was not kept at this temperature.
    """
    kept: tuple[float, ...] = getattr(teacher, "tail_temperatures", ())
    if temperature not in kept:
        raise UserError(
            f"the stored top-k knowledge has its tail at temperatures {list(kept)}, not {temperature}; "
            "label again with this temperature"
        )
    return teacher[f"{signal}.tail"][..., kept.index(temperature)]
