"""MiniLM's relations: the student's tokens relate to one another as the teacher's do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.setting import above_zero
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm, over_places


def minilm_relations(student: Tensor, teacher: Tensor, *, heads: int = 12, there: Tensor | None = None) -> Tensor:
    """KL(R(teacher) || R(student)), R = softmax(X X^T / sqrt(d)) of each head's part X of the states, d wide.

    Args:
        student: queries, keys or values of all its heads side by side, (B, T, D).
        teacher: the same of the teacher, of any width; no gradient reaches them.
        heads: into how many parts both widths are cut, whatever heads the models have.
        there: whether a token is there, (B, T); by default all are.

    Returns:
        (B, T), nats, a mean over heads, of each token as the one that looks.

    Source: Wang et al. 2021 (MiniLMv2), section 3; the mean over heads and tokens is left to the caller in
    part, so that padding does not count.

    >>> import torch
    >>> alike, apart = torch.zeros(1, 2, 1), torch.tensor([[[1.0], [-1.0]]])
    >>> found = minilm_relations(alike, apart, heads=1)  # p = e / (e + 1 / e) = 0.8808: log 2 - H(p)
    >>> [round(x, 4) for x in found[0].tolist()]
    [0.3278, 0.3278]
    """
    logs = []
    for states in (student, teacher.detach()):
        parts = states.float().reshape(*states.shape[:2], heads, -1).transpose(1, 2)
        scores = parts @ parts.transpose(2, 3) / math.sqrt(parts.shape[3])
        if there is not None:
            # Finite, so that a text without any token gives numbers too.
            scores = scores.masked_fill(~there[:, None, None], torch.finfo(torch.float32).min / 4)
        logs.append(torch.log_softmax(scores, 3))
    return functional.kl_div(logs[0], logs[1], log_target=True, reduction="none").sum(3).mean(1)


class MinilmRelations(HiddenTerm, RowTerm):
    """For transformers of other widths, depths and heads than the teacher: one layer is enough, and no projection.

    Tap the parts that make queries, keys and values of the last layer of a base model, or of a late one of a
    large model; each is related to itself, as the source does. Both must read the same tokens.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, T, D) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |

    Args:
        heads: divides the widths of student and teacher; the source takes 48 for a teacher of width 768.
    """

    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Wang et al. 2021"
    projected: ClassVar[bool] = False
    placed: ClassVar[bool] = True

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], heads: int = 12) -> None:
        super().__init__(student=student, teacher=teacher)
        self.heads = int(above_zero("heads", heads))

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Widths must be parted evenly."""
        super().size(student, teacher, batch)
        for side, taps in ((student, self.student_taps), (teacher, self.teacher_taps)):
            for path in taps:
                shape = side[HIDDEN + path].shape
                if len(shape) != 3 or shape[2] % self.heads:
                    raise UserError(
                        f"'{path}' says states of shape {tuple(shape)}; they must be (B, T, D), "
                        f"and heads, which is {self.heads}, must divide D"
                    )

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats, a mean over the tokens that are there, summed over pairs of parts."""
        mask = batch.get("mask")
        there = None if mask is None else mask > 0
        both = self.pairs(student, teacher)
        losses = [over_places(minilm_relations(*pair, heads=self.heads, there=there), mask) for pair in both]
        return torch.stack(losses).sum(0)
