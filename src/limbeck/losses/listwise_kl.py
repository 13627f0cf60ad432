"""Listwise KL: the student's distribution over the candidates follows the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.bucketed import LOW
from limbeck.candidate import told
from limbeck.divergence import FLOOR, of_relative_entropy, tempered
from limbeck.errors import UserError
from limbeck.piecewise import piecewise
from limbeck.slope import sloped, wide
from limbeck.term import RowTerm, every


def listwise_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, seen: Tensor | None = None) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student)) over the items of a list.

    Rankers' scores have no common scale, so only the teacher is softened and the student finds its
    own scale: there is no T^2 to carry, because the student's gradient does not shrink with T.

    Args:
        student: scores, (B, N).
        teacher: scores, (B, N); -inf where an item must not be learnt from; no gradient reaches them.
        temperature: T > 0, in units of the teacher's scores.
        seen: positions (B, L) left out of both distributions, padded with -1; what a user already
            has is never recommended, and would otherwise take most of the mass.

    Returns:
        (B,), nats; 0 for a row with no item left.

    Source: Cao et al. 2007, "Learning to Rank: from Pairwise to Listwise", with a teacher's
    distribution in place of graded labels.

    >>> listwise_kl(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]]), temperature=2.0).item()
    0.0
    """
    out = torch.isneginf(teacher)
    if seen is not None:
        rows, places = torch.nonzero(seen >= 0, as_tuple=True)
        out[rows, seen[rows, places]] = True
    return sloped(_losses)(student, tempered(teacher.detach(), temperature), out)


def _losses(student: Tensor, teacher: Tensor, out: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    q_log = torch.log_softmax(wide(student).masked_fill(out, LOW).clamp_(min=LOW), 1)
    p_log = torch.log_softmax(teacher.to(q_log.dtype).masked_fill(out, LOW), 1).clamp_(min=FLOOR)
    return of_relative_entropy(q_log, p_log)


class ListwiseKl(RowTerm):
    """Follows the teacher's ranking with emphasis on its top.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, K) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    With candidates (top K and sampled items) the list is those candidates, for both.

    Args:
        temperature: of the teacher's scores; small sharpens the top.
        mask_seen: leave the row's own targets out of both distributions.
        signal: the name of the scores.
    """

    group: ClassVar[str] = "ranking"
    paper: ClassVar[str] = "Cao et al. 2007"

    def __init__(self, *, temperature: float = 1.0, mask_seen: bool = True, signal: str = "scores") -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f"temperature is {temperature}; it must be above 0")
        self.temperature = temperature
        self.mask_seen = mask_seen
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row, 0 where no item is left."""
        scores = student[self.signal]
        return self._losses(scores, teacher, batch["targets"] if self.mask_seen else None)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A row with no item left does not count."""
        if f"{self.signal}.ids" in teacher:
            seen = batch["targets"] if self.mask_seen else None
            return told(teacher, signal=self.signal, seen=seen)[0].amax(1) > float("-inf")
        items = teacher[self.signal].shape[1]
        return (batch["targets"] >= 0).sum(1) < items if self.mask_seen else every(teacher, batch)

    def _losses(self, scores: Tensor, teacher: Mapping[str, Tensor], seen: Tensor | None) -> Tensor:
        if f"{self.signal}.ids" not in teacher:
            return piecewise(self._of_all)(scores, teacher[self.signal], *([] if seen is None else [seen]))
        ids, values = teacher[f"{self.signal}.ids"].long(), teacher[f"{self.signal}.values"]
        values = values.masked_fill(ids < 0, float("-inf"))
        if seen is not None:
            owned = (ids.unsqueeze(2) == seen.unsqueeze(1)).any(2)
            values = values.masked_fill(owned, float("-inf"))
        return listwise_kl(scores.gather(1, ids.clamp(min=0)), values, temperature=self.temperature)

    def _of_all(self, scores: Tensor, teacher: Tensor, seen: Tensor | None = None) -> Tensor:
        return listwise_kl(scores, teacher, temperature=self.temperature, seen=seen)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's softened distribution (B, N) over the items that are not masked."""
        if self.signal not in teacher:
            return None
        scores = teacher[self.signal].float() / self.temperature
        if self.mask_seen:
            rows, places = torch.nonzero(batch["targets"] >= 0, as_tuple=True)
            scores[rows, batch["targets"][rows, places]] = float("-inf")
        return torch.softmax(scores, 1).nan_to_num(0.0)
