"""Universal logit distillation: distributions over two vocabularies, compared by their sorted probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.steps import MASK, by_step, steps_of
from limbeck.term import RowTerm, every


def uld(student: Tensor, teacher: Tensor) -> Tensor:
    """sum_i |sort(softmax(student))_i - sort(softmax(teacher))_i|, falling, the shorter filled up with 0.

    Args:
        student: raw logits, (B, V).
        teacher: raw logits, (B, W), of another vocabulary; -inf is a token the teacher rules out; no gradient
            reaches them.

    Returns:
        (B,), probability, in [0, 2].

    Source: Boizard et al. 2025 (ULD): Wasserstein's distance where every token is equally far from
    every other.

    >>> round(uld(torch.tensor([[0.0, -1e4]]), torch.tensor([[0.0, -1e4, 0.0]])).item(), 4)
    1.0
    """
    q = torch.softmax(student.float(), -1).sort(-1, descending=True).values
    p = torch.softmax(teacher.detach().float(), -1).sort(-1, descending=True).values
    longest = max(q.shape[-1], p.shape[-1])
    q, p = (functional.pad(x, (0, longest - x.shape[-1])) for x in (q, p))
    return (p - q).abs().sum(-1)


class Uld(RowTerm):
    """For a teacher with another tokenizer; where the vocabulary is one, `skewed_kl` says far more.

    It knows how sure the teacher is, not of what: keep a hard loss, or `sequence_kd`, beside it. Texts are
    compared token by token, up to the end of the shorter one.

    | reads | from |
    |---|---|
    | `steps` (B, T, N) | student, teacher |
    | `mask` (B, T), where there are steps of the student's that do not count | batch |

    Args:
        signal: the name of the logits.
    """

    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Boizard et al. 2025"

    def __init__(self, *, signal: str = "steps") -> None:
        super().__init__()
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Probability a row, over its steps."""
        mine, theirs = student[self.signal], teacher[self.signal]
        steps = min(mine.shape[1], theirs.shape[1])
        mask = {MASK: batch[MASK][:, :steps]} if MASK in batch else {}
        return by_step(uld, [mine[:, :steps], theirs[:, :steps]], mask)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The student's steps that count and that the teacher has too; 1 where there is no mask."""
        if MASK not in batch:
            return every(teacher, batch)
        return steps_of({MASK: batch[MASK][:, : teacher[self.signal].shape[1]]})
