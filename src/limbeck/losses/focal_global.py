"""Focal and global distillation: a detector's maps, objects and ground apart, and how their places belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.projection import width
from limbeck.setting import above_zero, at_least_zero
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm


def foreground(boxes: Tensor, high: int, wide: int) -> Tensor:
    """How much each place counts as part of an object: 1 / the area of the smallest box upon it, 0 on the ground.

    Args:
        boxes: left, top, right, bottom as shares of a picture, (B, N, 4); one without area is padding.
        high: rows of the map.
        wide: columns of the map.

    Returns:
        (B, high, wide); a box counts for 1 in sum, whatever its size.

    >>> foreground(torch.tensor([[[0.0, 0.0, 0.5, 1.0]]]), 2, 2).tolist()
    [[[0.5, 0.0], [0.5, 0.0]]]
    """
    boxes = boxes.detach().float().clamp(0, 1)
    real = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    scale = boxes.new_tensor([wide, high])
    start, end = (boxes[..., :2] * scale).floor(), (boxes[..., 2:] * scale).ceil()
    across, down = (torch.arange(n, device=boxes.device) for n in (wide, high))
    in_x = (across >= start[..., :1]) & (across < end[..., :1])
    in_y = (down >= start[..., 1:]) & (down < end[..., 1:])
    area = (end - start).prod(2).clamp(min=1)
    inside = in_y.unsqueeze(3) & in_x.unsqueeze(2) & real[..., None, None]
    return (inside / area[..., None, None]).amax(1)


def attention(maps: Tensor, *, temperature: float = 0.5) -> tuple[Tensor, Tensor]:
    """Where a map is active, (B, H, W), and in which channels, (B, C); each 1 on average.

    Args:
        maps: (B, C, H, W).
        temperature: of the softmax of the mean absolute activity.
    """
    size = maps.float().abs()
    places = torch.softmax(size.mean(1).flatten(1) / temperature, 1) * size[0, 0].numel()
    channels = torch.softmax(size.mean((2, 3)) / temperature, 1) * size.shape[1]
    return places.reshape_as(size[:, 0]), channels


def focal(
    student: Tensor, teacher: Tensor, objects: Tensor, *, temperature: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared differences where the teacher looks, on objects and on the ground, and how differently the two look.

    Args:
        student: maps, (B, C, H, W).
        teacher: maps of the same shape; no gradient reaches them.
        objects: how much each place counts as part of one, (B, H, W), 0 on the ground, whose places count alike.
        temperature: of the attention.

    Returns:
        (B,) each: sum_ij M_ij A_ij sum_c A_c (s - t)^2 for M of objects and of the ground, and the sums of
        absolute differences of the two attentions.

    Source: Yang et al. 2022 (FGD), equations 6 to 9.
    """
    mine, theirs, objects = student.float(), teacher.detach().float(), objects.detach()
    places, channels = attention(theirs, temperature=temperature)
    own_places, own_channels = attention(mine, temperature=temperature)
    apart = ((mine - theirs).square() * channels[..., None, None]).sum(1) * places
    ground = (objects == 0).float()
    ground = ground / ground.sum((1, 2), keepdim=True).clamp(min=1)
    look = (own_places - places).abs().sum((1, 2)) + (own_channels - channels).abs().sum(1)
    return (apart * objects).sum((1, 2)), (apart * ground).sum((1, 2)), look


class Context(nn.Module):
    """What a map says as a whole, added to each of its places.

    Args:
        channels: of the map, C.

    Source: the global context block of Cao et al. 2019 (GCNet), as FGD has it, at first adding nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(1, channels // 2)
        self.look = nn.Conv2d(channels, 1, 1)
        self.enter = nn.Linear(channels, middle)
        self.norm = nn.LayerNorm(middle)
        self.leave = nn.Linear(middle, channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W)."""
        where = torch.softmax(self.look(maps).flatten(2), 2)
        whole = (maps.flatten(2) @ where.transpose(1, 2)).squeeze(2)
        added = self.leave(functional.relu(self.norm(self.enter(whole))))
        return maps + added[..., None, None]


class FocalGlobal(HiddenTerm, RowTerm):
    """For detectors with boxes in the batch: prefer `pearson_maps` where there are none, or no time to tune.

    Tap the stages of both pyramids. Maps with as many channels as the teacher's are compared as they are.
    With `ground`, `look` and `whole` at 0 it imitates features near objects only (FGFI, Wang et al. 2019), with
    the teacher's attention on top.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, C, H, W) | student, teacher |
    | `boxes` (B, N, 4), left, top, right, bottom as shares of the picture; without area where padded | batch |

    Args:
        objects, ground, look, whole: weights of the parts: differences on objects, differences on the ground,
            attention, and the context of the whole map. The defaults are those for one-stage detectors; for two
            stages 5e-5, 2.5e-5, 5e-5 and 5e-7.
        temperature: of the attention.
    """

    group: ClassVar[str] = "detection"
    paper: ClassVar[str] = "Yang et al. 2022"
    pictured: ClassVar[bool] = True
    kept: ClassVar[bool] = True

    def __init__(
        self,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        objects: float = 1e-3,
        ground: float = 5e-4,
        look: float = 1e-3,
        whole: float = 5e-6,
        temperature: float = 0.5,
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.objects = at_least_zero("objects", objects)
        self.ground = at_least_zero("ground", ground)
        self.look = at_least_zero("look", look)
        self.whole = at_least_zero("whole", whole)
        self.temperature = above_zero("temperature", temperature)
        self.contexts = nn.ModuleList()

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """A projection and two contexts a pair."""
        super().size(student, teacher, batch)
        self.contexts = nn.ModuleList()
        for theirs in self.teacher_taps if self.whole else ():
            channels = width(teacher[HIDDEN + theirs].shape)
            self.contexts.extend([Context(channels), Context(channels)])

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The weighed sum of the parts over pairs."""
        losses = [self._pair(i, *both, batch["boxes"]) for i, both in enumerate(self.pairs(student, teacher))]
        return torch.stack(losses).sum(0)

    def _pair(self, place: int, student: Tensor, teacher: Tensor, boxes: Tensor) -> Tensor:
        objects = foreground(boxes, teacher.shape[2], teacher.shape[3])
        near, far, look = focal(student, teacher, objects, temperature=self.temperature)
        total = self.objects * near + self.ground * far + self.look * look
        if self.whole:
            mine, theirs = self.contexts[2 * place], self.contexts[2 * place + 1]
            apart = (mine(student.float()) - theirs(teacher.float())).square().sum((1, 2, 3))
            total = total + self.whole * apart
        return total
