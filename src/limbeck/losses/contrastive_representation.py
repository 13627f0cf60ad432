"""Contrastive representation distillation: a row's student and teacher know one another among all other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.projection import by_place, width
from limbeck.setting import above_zero, share
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm, over_places


def contrastive_representation(
    anchor: Tensor, own: Tensor, bank: Tensor, others: Tensor, *, temperature: float = 0.07
) -> Tensor:
    """-log h(own) - sum over others of log(1 - h(other)), h(x) = sigma(anchor . x / T - log(N Z)).

    N is the number of a row's others, and Z the mean of exp(anchor . x / T) over unrelated x, exp(1 / (2 D T^2)).

    Args:
        anchor: of length 1, (B, D).
        own: what the other side says of the same row, of length 1, (B, D); no gradient reaches it.
        bank: what the other side said of many rows, of length 1, (M, D); no gradient reaches it.
        others: whether an entry of the bank is of another row, (B, M).
        temperature: T > 0.

    Returns:
        (B,), nats, 0 or more.

    Source: Tian, Krishnan, Isola 2020, section 3, with the normaliser of their code. That code takes Z
    from its first batch; its expectation is taken here, so that there is nothing to remember.

    >>> import math
    >>> right, up = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> loss = contrastive_representation(right, right, up, torch.tensor([[True]]), temperature=0.5)
    >>> round(loss.item(), 4)  # log(1 + e^-(2 - 1)) + log(1 + e^-1)
    0.6265
    """
    anchor, own, bank = anchor.float(), own.detach().float(), bank.detach().float()
    scale = others.sum(1).clamp(min=1).log() + 1 / (2 * anchor.shape[1] * temperature**2)
    near = (anchor * own).sum(1) / temperature - scale
    far = anchor @ bank.T / temperature - scale.unsqueeze(1)
    return functional.softplus(-near) + torch.where(others, functional.softplus(far), 0.0).sum(1)


class _Contrast(nn.Module):
    """The maps of one pair of parts, and a memory of what both sides last said of many rows, found by the row's id."""

    student: Tensor
    teacher: Tensor
    owner: Tensor

    def __init__(self, student: int, teacher: int, *, width: int, slots: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(student, width), nn.Linear(teacher, width)])
        self.register_buffer("student", torch.zeros(slots, width))
        self.register_buffer("teacher", torch.zeros(slots, width))
        self.register_buffer("owner", torch.full((slots,), -1))

    def forward(
        self, states: tuple[Tensor, Tensor], batch: Mapping[str, Tensor], momentum: float, temperature: float
    ) -> Tensor:
        """Nats a row, of both sides as anchors; while it learns, the rows are written down."""
        id, mask = batch["id"], batch.get("mask")
        mine, theirs = (
            functional.normalize(embed(over_places(by_place(side).float(), mask)).float())
            for side, embed in zip(states, self.maps, strict=True)
        )
        keep = self.training and torch.is_grad_enabled()
        my_own, their_own = self._meet(id, (mine.detach(), theirs.detach()), momentum, keep)
        others = (self.owner >= 0) & (self.owner != id.unsqueeze(1))
        ours = contrastive_representation(mine, their_own, self.teacher, others, temperature=temperature)
        return ours + contrastive_representation(theirs, my_own, self.student, others, temperature=temperature)

    @torch.no_grad()
    def _meet(self, id: Tensor, said: tuple[Tensor, Tensor], momentum: float, keep: bool) -> tuple[Tensor, Tensor]:
        """What is now held of these rows, old and new mixed, (B, width) each; `keep` writes it down."""
        slot = id % len(self.owner)
        known = (self.owner[slot] == id).unsqueeze(1)
        mixed = []
        for bank, new in zip((self.student, self.teacher), said, strict=True):
            mixed.append(functional.normalize(torch.where(known, momentum * bank[slot] + (1 - momentum) * new, new)))
        if keep:
            place = torch.arange(len(id), device=id.device)
            # Of two rows that want one place the last has it; writing both would leave a mixture.
            last = torch.full_like(self.owner, -1).scatter_reduce(0, slot, place, "amax")[slot]
            self.student = self.student.index_copy(0, slot, mixed[0][last])
            self.teacher = self.teacher.index_copy(0, slot, mixed[1][last])
            self.owner = self.owner.index_copy(0, slot, id[last])
        return mixed[0], mixed[1]


class ContrastiveRepresentation(HiddenTerm, RowTerm):
    """For states of pictures and texts where most of what is known lies in what rows are *not*; usual weight 0.8.

    Both sides are mapped to `width` and compared with a memory of rows gone by, found by `id`; the maps and the
    memory stay behind after training. Unlike the source, all rows of the memory but the own are contrasted with,
    rather than a draw for each row, and a row's own entry is the one just mixed, so that a row that is met
    for the first time has one. Rows of one class contrast too: no label is read.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `id` (B,), which names the row | batch |
    | `mask` (B, T), where tokens are padded | batch |

    Args:
        temperature: T; lower looks at the nearest rows only.
        momentum: the share of what was held of a row that is kept when it is met again, below 1.
        width: of what is compared.
        slots: how many rows the memory holds; those whose ids differ by a multiple of it share a place.
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Tian et al. 2020"
    projected: ClassVar[bool] = False

    def __init__(
        self,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        temperature: float = 0.07,
        momentum: float = 0.5,
        width: int = 128,
        slots: int = 16_384,
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.temperature = above_zero("temperature", temperature)
        self.momentum = share("momentum", momentum)
        self.width = int(above_zero("width", width))
        self.slots = int(above_zero("slots", slots))

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Two maps and a memory a pair."""
        self.contrasts = nn.ModuleList()
        for mine, theirs in zip(self.student_taps, self.teacher_taps, strict=True):
            widths = width(student[HIDDEN + mine].shape), width(teacher[HIDDEN + theirs].shape)
            self.contrasts.append(_Contrast(*widths, width=self.width, slots=self.slots))

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats, of both sides as anchors, summed over pairs of parts."""
        if "id" not in batch:
            raise UserError("contrastive_representation finds what it remembers by the row's id; the batch has no 'id'")
        both = zip(self.pairs(student, teacher), self.contrasts, strict=True)
        return torch.stack([one(states, batch, self.momentum, self.temperature) for states, one in both]).sum(0)
