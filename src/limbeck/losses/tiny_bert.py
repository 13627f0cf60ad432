"""TinyBERT's first stage: embeddings, hidden states and attention scores of several layers follow the teacher's."""

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

Pair = tuple[Tensor, Tensor]


def tiny_bert(student: Pair, teacher: Pair, *, heads: int = 12, there: Tensor | None = None) -> Tensor:
    """(S(student) - S(teacher))^2, S = Q K^T / sqrt(d) the attention scores before their softmax.

    Args:
        student: queries and keys of all its heads side by side, (B, T, D) each.
        teacher: the same of the teacher, of any width; no gradient reaches them.
        heads: of both models alike; d is the width of one.
        there: whether a token is there, (B, T); by default all are.

    Returns:
        (B,), squared scores, a mean over heads and pairs of tokens that are both there.

    Source: Jiao et al. 2020, equation 7. Their code sets the scores of padded tokens to 0 instead, and counts them.

    >>> one, none = torch.tensor([[[2.0]]]), torch.zeros(1, 1, 1)
    >>> tiny_bert((one, one), (one, none), heads=1).tolist()  # (2 * 2 - 2 * 0)^2
    [16.0]
    """
    mine, theirs = (_scores(*pair, heads) for pair in (student, (teacher[0].detach(), teacher[1].detach())))
    apart = functional.mse_loss(mine, theirs, reduction="none").mean(1)
    seen = None if there is None else (there.unsqueeze(1) & there.unsqueeze(2)).flatten(1)
    return over_places(apart.flatten(1), seen)


def _scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    query, key = (x.float().reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key))
    return query @ key.transpose(2, 3) / math.sqrt(query.shape[3])


class TinyBert(HiddenTerm, RowTerm):
    """For transformers with as many heads as the teacher and fewer layers, each held to one of the teacher's.

    Name the embeddings and the layers of both, evenly spread over the teacher's, and the parts that make queries
    and keys of the same layers. Where heads differ, `minilm_relations` does without; its last stage, on logits,
    is `kl` at temperature 1.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, T, D) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |

    Args:
        student_attention, teacher_attention: paths of the parts that make queries and keys, by turns, as many of the
            one as of the other; none leaves attention out.
        heads: of both models.
    """

    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Jiao et al. 2020"
    placed: ClassVar[bool] = True

    def __init__(
        self,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        student_attention: Sequence[str] = (),
        teacher_attention: Sequence[str] = (),
        heads: int = 12,
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.heads = int(above_zero("heads", heads))
        if len(student_attention) != len(teacher_attention) or len(student_attention) % 2:
            raise UserError(
                f"student_attention names {len(student_attention)} parts and teacher_attention "
                f"{len(teacher_attention)}; name queries and keys by turns, as many of the one as of the other"
            )
        self.student_attention, self.teacher_attention = tuple(student_attention), tuple(teacher_attention)
        self.states = self.student_taps, self.teacher_taps
        self.student_taps += self.student_attention
        self.teacher_taps += self.teacher_attention

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Projections of the states; heads must part the widths of queries and keys evenly."""
        for side, taps in zip((student, teacher), self.states, strict=True):
            for path in taps:
                shape = side[HIDDEN + path].shape
                if len(shape) != 3:
                    raise UserError(f"'{path}' says states of shape {tuple(shape)}; those of tokens are (B, T, D)")
        super().size(student, teacher, batch)
        self.projections = self.projections[: len(self.states[0])]
        for side, taps in ((student, self.student_attention), (teacher, self.teacher_attention)):
            for path in taps:
                shape = side[HIDDEN + path].shape
                if len(shape) != 3 or shape[2] % self.heads:
                    raise UserError(
                        f"'{path}' says states of shape {tuple(shape)}; they must be (B, T, D), "
                        f"and heads, which is {self.heads}, must divide D"
                    )

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Squared states, a mean over widths and tokens, and squared scores, summed over layers."""
        mask = batch.get("mask")
        losses = []
        for mine, theirs, project in zip(*self.states, self.projections, strict=True):
            wanted = teacher[HIDDEN + theirs].detach().float()
            mapped = project(student[HIDDEN + mine], wanted).float()
            losses.append(over_places(functional.mse_loss(mapped, wanted, reduction="none").mean(2), mask))
        there = None if mask is None else mask > 0
        own = [student[HIDDEN + path] for path in self.student_attention]
        others = [teacher[HIDDEN + path] for path in self.teacher_attention]
        for at in range(0, len(own), 2):
            pairs = (own[at], own[at + 1]), (others[at], others[at + 1])
            losses.append(tiny_bert(*pairs, heads=self.heads, there=there))
        return torch.stack(losses).sum(0)
