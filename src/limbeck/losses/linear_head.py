"""A divergence through a linear head: of large vocabularies, without the student's logits ever being whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from limbeck import parts
from limbeck.divergence import Divergence
from limbeck.errors import UserError
from limbeck.head import fused, head_of
from limbeck.piecewise import RowLoss
from limbeck.steps import flat
from limbeck.taps import INPUT
from limbeck.term import Term


class LinearHead(Term):
    """For vocabularies so large that their logits fill the memory: `kl`, or a sibling, at a block of rows at a time.

    | reads | from |
    |---|---|
    | `input.<path>` (B, D) or (B, T, D) | student |
    | `weight.<path>` (V, D) | student |
    | `bias.<path>` (V), where there is one | student |
    | `logits` (B, V) or (B, T, V), or `logits.ids`, `.values` (.., K) and `.tail`, or a head of its own | teacher |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        student: path of the student's last linear part.
        teacher: path of a live teacher's, or none, where its signal is read, whole or top-k.
        divergence: the name of a loss between two softened distributions.
        temperature: T > 0, of both.
        signal: the name of the teacher's logits.
        alone: whether no other loss reads the answers of these heads, so that they need not be computed at all.
        settings: further ones of the divergence, such as `beta`.
    """

    rowwise: ClassVar[bool] = True
    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Hsu et al. 2024"

    def __init__(
        self,
        *,
        student: str,
        teacher: str | None = None,
        divergence: str = "kl",
        temperature: float = 1.0,
        signal: str = "logits",
        alone: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.student_heads = (student,)
        self.teacher_heads = () if teacher is None else (teacher,)
        self.skipped_heads = (*self.student_heads, *self.teacher_heads) if alone else ()
        inner = parts.make("losses", divergence, {**(settings or {}), "temperature": temperature, "signal": signal})
        if not isinstance(inner, Divergence):
            raise UserError(f"divergence is '{divergence}', which is none; take one such as kl, reverse_kl, skewed_kl")
        self.divergence = inner

    @property
    def temperature(self) -> float:
        """T, of the divergence."""
        return self.divergence.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.divergence.temperature = value

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those of the divergence, which reads the tail of top-k knowledge; none where a head is read."""
        return () if self.teacher_heads else self.divergence.temperatures

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Builds nothing, but looks whether the teacher is one whose head can be read.

        Raises:
            UserError: its answers are stored.
        """
        missing = [path for path in self.teacher_heads if INPUT + path not in teacher]
        if missing:
            raise UserError(
                f"the teacher's head '{missing[0]}' can only be read of a live module; stored knowledge has its "
                "logits: leave `teacher` out of this loss"
            )
        if not self.teacher_heads:
            self.divergence.size(student, teacher, batch)
        self.divergence.stepped = head_of(student, self.student_heads[0]).hidden.ndim > 2

    def denominator(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The sum of the rows, or of the steps that count, by weight."""
        return self.divergence.denominator(teacher, batch)

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Nats, the (weighted) mean over rows, or over the steps that count."""
        mine = head_of(student, self.student_heads[0])
        if self.teacher_heads:
            theirs = head_of(teacher, self.teacher_heads[0])
            loss: RowLoss = self.divergence.between
            tensors = [mine.hidden, theirs.hidden.detach()]
        else:
            loss, known = self.divergence.beside(teacher)
            tensors = [mine.hidden, *known]
        (states, *others), owner = flat(tensors, batch)
        weight = batch["weight"].float()[owner] if "weight" in batch else torch.ones_like(owner, dtype=torch.float32)
        total = weight.sum()
        share = weight / torch.where(total > 0, total, 1.0)
        if self.teacher_heads:
            return fused(loss, mine._replace(hidden=states), [theirs._replace(hidden=others[0])], share=share)
        return fused(loss, mine._replace(hidden=states), others, share=share)
