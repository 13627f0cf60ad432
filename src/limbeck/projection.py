"""Brings a student's hidden states to the shape of its teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.errors import UserError


class Projection(nn.Module):
    """A map over widths, alike at every place; pictures are resized to the teacher's.

    Where shapes are equal it still maps, for a student's axes need not mean what the teacher's do. It maps in
    the precision of its own weights, whatever comes in.

    Args:
        student, teacher: shapes of the states: (B, D), (B, T, D), or (B, C, H, W) for pictures.
        layers: 1 is linear; each further one is of the teacher's width, behind a ReLU.

    Raises:
        UserError: the one has places that the other lacks.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int], *, layers: int = 1) -> None:
        super().__init__()
        check_alike(student, teacher)
        self.wide = len(teacher) == 4
        mine, theirs = (width(shape) for shape in (student, teacher))
        parts: list[nn.Module] = []
        for layer in range(layers):
            inward = mine if layer == 0 else theirs
            parts += [nn.ReLU()] if layer else []
            parts.append(nn.Conv2d(inward, theirs, 1) if self.wide else nn.Linear(inward, theirs))
        self.map = nn.Sequential(*parts)

    def forward(self, states: Tensor, teacher: Tensor) -> Tensor:
        """The student's states in the shape that the teacher's now have."""
        if self.wide:
            states = resized(states, teacher)
        mapped: Tensor = self.map(states.to(next(self.parameters()).dtype))
        return mapped


class Resized(nn.Module):
    """Pictures at the teacher's size, their channels as they are; other states untouched."""

    def forward(self, states: Tensor, teacher: Tensor) -> Tensor:
        """The student's states in the shape that the teacher's now have."""
        return resized(states, teacher) if states.ndim == 4 else states


def check_alike(student: Sequence[int], teacher: Sequence[int]) -> None:
    """Hold two shapes of states to the same kind of places.

    Raises:
        UserError: the one has places that the other lacks.
    """
    if len(student) != len(teacher) or len(student) not in (2, 3, 4):
        raise UserError(
            f"the student's states are of shape {tuple(student)}, the teacher's of {tuple(teacher)}; "
            "both must be (B, D), (B, T, D) or (B, C, H, W): tap other parts"
        )
    if len(student) == 3 and student[1] != teacher[1]:
        raise UserError(
            f"the student's states have {student[1]} places a row, the teacher's {teacher[1]}; "
            "both must read the same tokens: tap pooled states instead"
        )


def check_places(student: Sequence[int], teacher: Sequence[int]) -> None:
    """Hold two shapes of states to have places at all.

    Raises:
        UserError: they have none, or not the same kind.
    """
    check_alike(student, teacher)
    if len(student) == 2:
        raise UserError(
            f"the student's states are of shape {tuple(student)}, in which there are no places to compare; "
            "tap parts that say (B, T, D) or (B, C, H, W), such as the layer before the pooling"
        )


def check_pictures(student: Sequence[int], teacher: Sequence[int]) -> None:
    """Hold two shapes of states to be pictures.

    Raises:
        UserError: they are not.
    """
    if len(student) != 4 or len(teacher) != 4:
        raise UserError(
            f"the student's states are of shape {tuple(student)}, the teacher's of {tuple(teacher)}; "
            "both must be (B, C, H, W): tap parts that say maps"
        )


def width(shape: Sequence[int]) -> int:
    """Of states: D, or C of pictures."""
    return shape[1] if len(shape) == 4 else shape[-1]


def axis(states: Tensor) -> int:
    """Where states have their widths: second of pictures, last of all others."""
    return 1 if states.ndim == 4 else -1


def along(widths: Tensor, states: Tensor) -> Tensor:
    """One number a width, (D,), to be counted with states of any kind."""
    return widths.view(-1, 1, 1) if states.ndim == 4 else widths


def resized(pictures: Tensor, like: Tensor) -> Tensor:
    """Pictures (B, C, H, W) at the H and W of another's, bilinearly."""
    if pictures.shape[2:] == like.shape[2:]:
        return pictures
    return functional.interpolate(pictures, like.shape[2:], mode="bilinear", align_corners=False)


def pooled(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two pictures (B, C, H, W), the larger averaged down to the smaller; other states as they are."""
    if student.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    places = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return functional.adaptive_avg_pool2d(student, places), functional.adaptive_avg_pool2d(teacher, places)


def by_place(states: Tensor) -> Tensor:
    """States as (B, places, D): one place of (B, D), the tokens of (B, T, D), H x W of (B, C, H, W)."""
    if states.ndim == 4:
        return states.flatten(2).transpose(1, 2)
    return states.unsqueeze(1) if states.ndim == 2 else states


class AttentionFusion(nn.Module):
    """A student's stage with what deeper stages have gathered, weighed place by place.

    Args:
        student, teacher: widths of this stage.
        middle: width in which stages are fused.
        deepest: whether nothing deeper is to be fused in.

    Source: ABF of Chen et al. 2021 (ReviewKD), section 3.2, without batch normalisation, so that a row's loss
    does not hang on the others of its batch.
    """

    def __init__(self, student: int, teacher: int, *, middle: int, deepest: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(student, middle, 1)
        self.weigh = None if deepest else nn.Conv2d(2 * middle, 2, 1)
        self.leave = nn.Conv2d(middle, teacher, 3, padding=1)

    def forward(self, states: Tensor, deeper: Tensor | None, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """This stage in the teacher's shape (B, C, H, W), and what shallower ones are fused with (B, M, H, W)."""
        own: Tensor = self.enter(states.to(self.enter.weight.dtype))
        if self.weigh is not None and deeper is not None:
            deeper = functional.interpolate(deeper, own.shape[2:], mode="nearest")
            share = torch.sigmoid(self.weigh(torch.cat([own, deeper], 1)))
            own = own * share[:, :1] + deeper * share[:, 1:]
        left: Tensor = self.leave(resized(own, teacher))
        return left, own
