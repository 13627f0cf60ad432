"""Queue KL: the student finds a row as near to many rows gone by as the teacher does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.projection import by_place, width
from limbeck.setting import above_zero
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm, over_places


def queue_kl(
    student: Tensor, teacher: Tensor, queue: Tensor, *, temperature: float = 0.2, teacher_temperature: float = 0.01
) -> Tensor:
    """KL(p || q), p and q the softened cosines of a row to the queue and to what the teacher says of it now.

    Neither temperature is carried squared: they bring cosines to the scale of logits, and the student's stays
    where the run sets it.

    Args:
        student: states, (B, D).
        teacher: states, (B, D); no gradient reaches them.
        queue: what the teacher said of other rows, of length 1, (M, D).
        temperature: of the student's cosines, above 0.
        teacher_temperature: of the teacher's, above 0.

    Returns:
        (B,), nats.

    Source: Fang et al. 2021 (SEED), section 3.2, as a divergence rather than a cross-entropy: the gradient is
    the same, and 0 is reached.

    >>> import torch
    >>> right, up = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> found = queue_kl(up, right, up, temperature=1.0, teacher_temperature=0.01)
    >>> round(found.item(), 4)  # -log(1 / (1 + e))
    1.3133
    """
    theirs = functional.normalize(teacher.detach().float(), dim=1)
    mine = functional.normalize(student.float(), dim=1)
    rest = queue.detach().float().T
    near = [
        torch.cat([(side * theirs).sum(1, keepdim=True), side @ rest], 1) / scale
        for side, scale in ((mine, temperature), (theirs, teacher_temperature))
    ]
    # The logarithm of a softmax, for torch's exp, in log-softmax and its like, is many times slower far below 0.
    share = torch.softmax(near[1], 1)
    entropy = torch.linalg.vecdot(share, share.clamp(min=torch.finfo(torch.float32).tiny).log())
    return entropy - torch.linalg.vecdot(share, torch.log_softmax(near[0], 1))


class QueueKl(HiddenTerm, RowTerm):
    """For embeddings without labels: `probabilistic_transfer` with many more neighbours than a batch has.

    The queue holds the teacher's last states, random at first; with several processes each holds its own.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |

    Args:
        temperature: of the student's cosines; lower looks at the nearest rows only.
        teacher_temperature: of the teacher's.
        slots: length of the queue.
    """

    group: ClassVar[str] = "relation"
    paper: ClassVar[str] = "Fang et al. 2021"

    def __init__(
        self,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        temperature: float = 0.2,
        teacher_temperature: float = 0.01,
        slots: int = 65_536,
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.temperature = above_zero("temperature", temperature)
        self.teacher_temperature = above_zero("teacher_temperature", teacher_temperature)
        self.slots = int(above_zero("slots", slots))

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """A projection and a queue a pair."""
        super().size(student, teacher, batch)
        for place, path in enumerate(self.teacher_taps):
            drawn = torch.randn(self.slots, width(teacher[HIDDEN + path].shape))
            self.register_buffer(f"queue{place}", functional.normalize(drawn, dim=1))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats, summed over pairs of parts. While it learns, the rows join the queue."""
        losses, join = [], self.training and torch.is_grad_enabled()
        start, mask = self.get_buffer("next"), batch.get("mask")
        for place, pair in enumerate(self.pairs(student, teacher)):
            mine, theirs = (over_places(by_place(states).float(), mask) for states in pair)
            queue = self.get_buffer(f"queue{place}")
            scales = {"temperature": self.temperature, "teacher_temperature": self.teacher_temperature}
            losses.append(queue_kl(mine, theirs, queue, **scales))
            if join:
                at = (start + torch.arange(len(theirs), device=queue.device))[-self.slots :] % self.slots
                # A new tensor, for a graph not yet walked back holds the old one.
                setattr(self, f"queue{place}", queue.index_copy(0, at, functional.normalize(theirs[-self.slots :])))
                self.next = (start + len(theirs)) % self.slots
        return torch.stack(losses).sum(0)
