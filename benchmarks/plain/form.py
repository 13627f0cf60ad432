"""What plain forms are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from other import Said
from torch import Tensor
from torch.nn import functional as F

from limbeck.term import Term

Naive = Callable[[Term, Said, Said, Said], Tensor]
"""Of a term, and of what student, teacher and batch say."""


def kl_of(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of logarithms."""
    return F.kl_div(q, p, reduction="none", log_target=True).sum(-1)


def divergence(both: Callable[[Tensor, Tensor], Tensor], temperature: float = 1.0) -> Naive:
    """Of the softened distributions of `logits`, as (student's log q, teacher's log p) -> (B,)."""

    def naive(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
        pair = (F.log_softmax(said["logits"] / temperature, 1) for said in (student, teacher))
        return temperature**2 * both(*pair).mean()

    return naive


def states(loss: Callable[[Tensor, Tensor], Tensor]) -> Naive:
    """Of the tapped states, the student's projected where the term does."""

    def naive(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
        return loss(*pair(term, student, teacher))

    return naive


def pair(term: Term, student: Said, teacher: Said) -> tuple[Tensor, Tensor]:
    """The first pair of tapped states, the student's projected where the term does."""
    found: tuple[Tensor, Tensor] = term.pairs(student, teacher)[0]  # type: ignore[operator]
    return found


def known(batch: Said, classes: int) -> Tensor:
    """Which items are among a row's targets, bool (B, classes)."""
    there = batch["targets"] >= 0
    seen = torch.zeros(len(there), classes + 1, dtype=torch.bool)
    return seen.scatter(1, batch["targets"].where(there, classes), True)[:, :-1]
