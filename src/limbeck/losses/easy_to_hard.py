"""Easy to hard: the rankings a teacher had on its way are learnt one after another, its last one exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.bucketed import LOW
from limbeck.candidate import at, best, listed, ordered, others, told
from limbeck.errors import UserError
from limbeck.setting import one_or_more
from limbeck.term import RowTerm


def easy_to_hard(student: Tensor, teacher: Tensor, *, top: int = 50, sampled: int = 50, exact: bool = False) -> Tensor:
    """-sum_k [s_pi_k - log(e^{s_pi_k} + sum_{u in U} e^{s_u})]: the best above others, in whatever order.

    Where `exact`, each of the best stands above those after it too, as in relaxed ranking.

    Args:
        student: scores, (B, M).
        teacher: scores of one stage, (B, M); -inf where an item is left out; no gradient reaches them.
        top: how many of the best, K, 1 or more.
        sampled: how many of the others, drawn evenly at every call, 1 or more.
        exact: whether the order of the best counts.

    Returns:
        (B,), nats, summed over K.

    Source: Kang et al. 2023 (HetComp), equations 6 and 7, with U drawn in place of all others.

    >>> found = easy_to_hard(torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 0.0]]), top=2)
    >>> round(found.item(), 4)  # twice log 2
    1.3863
    """
    theirs = teacher.detach().float()
    first = best(theirs, top)
    rest = others(theirs, first, sampled)
    if exact:
        return ordered(student, first, rest)
    scores = at(student, first)
    below = at(student, rest).masked_fill(rest < 0, LOW).logsumexp(1, keepdim=True)
    return torch.where(first >= 0, torch.logaddexp(scores, below) - scores, 0.0).sum(1)


def discrepancy(student: Tensor, teacher: Tensor, *, top: int = 50) -> Tensor:
    """1 - NDCG of the student's best items, an item being worth 2^exp(-k / 10) - 1, k its rank by the teacher.

    Args:
        student: scores, (B, M).
        teacher: scores, (B, M); -inf where an item is left out.
        top: length of both lists.

    Returns:
        (B,), in [0, 1].

    >>> discrepancy(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 9.0]])).item()
    0.0
    """
    out = torch.isneginf(teacher)
    mine, theirs = best(student.float().masked_fill(out, float("-inf")), top), best(teacher, top)
    place = torch.arange(mine.shape[1], device=mine.device)
    gain = (2 ** torch.exp(-place / 10) - 1) * (theirs >= 0)
    discount = torch.log2(place + 2.0)
    worth = (gain.unsqueeze(1) * ((mine.unsqueeze(2) == theirs.unsqueeze(1)) & (mine >= 0).unsqueeze(2))).sum(2)
    return 1 - (worth / discount).sum(1) / (gain / discount).sum(1).clamp(min=1e-30)


class EasyToHard(RowTerm):
    """For a teacher far beyond its student, such as a large ensemble: prefer `relaxed_ranking` where the gap is small.

    The teacher says `scores.0`, `scores.1`, ...: its rankings as it trained, the last when it was done, such as an
    `ensemble` of its checkpoints that keeps them `apart`. The student goes on to the next stage once it has come
    near to it, and learns the order only of the last.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.0`, `scores.1` and so on, of which the last is the end | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        top: how many of the best are taught.
        sampled: how many of the others they stand above.
        nearer: the discrepancy from the next stage, when a stage was entered, over what it is now, at which the
            next is entered; above 1.
        memory: share of the discrepancy that is kept at each step, in [0, 1).
        mask_seen: leave out the row's own targets.
        signal: the name of the scores.
    """

    group: ClassVar[str] = "ranking"
    paper: ClassVar[str] = "Kang et al. 2023"
    stage: Tensor
    entered: Tensor
    recent: Tensor

    def __init__(
        self,
        *,
        top: int = 50,
        sampled: int = 50,
        nearer: float = 1.05,
        memory: float = 0.9,
        mask_seen: bool = True,
        signal: str = "scores",
    ) -> None:
        super().__init__()
        if not 1 < nearer < math.inf or not 0 <= memory < 1:
            raise UserError(f"nearer is {nearer} and memory {memory}; wanted: above 1, and at least 0 and below 1")
        self.top = one_or_more("top", top)
        self.sampled = one_or_more("sampled", sampled)
        self.nearer = nearer
        self.memory = memory
        self.mask_seen = mask_seen
        self.signal = signal
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.register_buffer("entered", torch.tensor(-1.0))  # none yet
        self.register_buffer("recent", torch.tensor(-1.0))

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row, 0 where no item of the stage is left."""
        stages = self._stages(teacher)
        last = len(stages) - 1
        if self.training and int(self.stage) < last:
            self._go_on(*self._listed(stages[int(self.stage) + 1], student, teacher, batch))
        now = min(int(self.stage), last)
        mine, theirs = self._listed(stages[now], student, teacher, batch)
        return easy_to_hard(mine, theirs, top=self.top, sampled=self.sampled, exact=now == last)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A row with no item left in the end does not count, at any stage."""
        seen = batch["targets"] if self.mask_seen else None
        return told(teacher, signal=self._stages(teacher)[-1], seen=seen)[0].amax(1) > float("-inf")

    def _stages(self, teacher: Mapping[str, Tensor]) -> list[str]:
        names = (f"{self.signal}.{stage}" for stage in itertools.count())
        return list(itertools.takewhile(lambda n: n in teacher or f"{n}.ids" in teacher, names)) or [self.signal]

    def _listed(
        self, stage: str, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What student and teacher say of the items of one stage."""
        seen = batch["targets"] if self.mask_seen else None
        return listed({stage: student[self.signal]}, teacher, signal=stage, seen=seen)[:2]

    def _go_on(self, student: Tensor, following: Tensor) -> None:
        """Note how near the next stage is, and enter it if that is near enough."""
        found = discrepancy(student.detach(), following, top=self.top).mean()
        if self.entered < 0:
            self.entered.copy_(found)
            self.recent.copy_(found)
        self.recent.mul_(self.memory).add_((1 - self.memory) * found)
        if self.entered > self.nearer * self.recent or self.entered == 0:
            self.stage.add_(1)
            self.entered.fill_(-1.0)
