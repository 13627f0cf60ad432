"""Losses whose gradients are written down, where autograd's own chain would read and write the rows more often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.piecewise import RowLoss

Sloped = Callable[..., tuple[Tensor, Callable[[], Tensor]]]
"""(student's tensor, others) to losses, and to what works out their gradients, in the student's shape; that is asked
for at most once, so it may write over what was computed before, but never over what came in."""


def sloped(losses: Sloped, *, axis: int = -1) -> RowLoss:
    """A loss that autograd sees as one step.

    The gradient is worked out together with the value, while what both need is still in a core's cache, and is all
    that is kept. No gradient reaches any tensor but the first.

    Args:
        losses: of the student's tensor and others, any shapes.
        axis: which of the student's axes the losses lack.

    Returns:
        A loss with those values and gradients.

    >>> half_square = sloped(lambda student: (student.square().sum(-1) / 2, lambda: student))
    >>> leaf = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> half_square(leaf).tolist(), torch.autograd.grad(half_square(leaf).sum(), leaf)[0].tolist()
    ([12.5], [[3.0, 4.0]])
    """

    def loss(student: Tensor, *others: Tensor) -> Tensor:
        if torch.is_grad_enabled() and student.requires_grad:
            found: Tensor = _Sloped.apply(losses, axis, student, *others)  # type: ignore[no-untyped-call]  # torch's
            return found
        with torch.no_grad():
            return losses(student, *others)[0]

    return loss


def wide(numbers: Tensor) -> Tensor:
    """In float32 at least."""
    return numbers if numbers.dtype == torch.float64 else numbers.float()


class _Sloped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, losses: Sloped, axis: int, student: Tensor, *others: Tensor) -> Tensor:
        found, slope = losses(student, *others)
        ctx.axis, ctx.dtype, ctx.others = axis, student.dtype, len(others)
        ctx.save_for_backward(slope())
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        # Never in place: a gradient may be asked for twice.
        found = ctx.saved_tensors[0] * above.unsqueeze(ctx.axis)
        return None, None, found.to(ctx.dtype), *[None] * ctx.others
