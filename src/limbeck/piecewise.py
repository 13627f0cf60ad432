"""Losses over large axes, some rows at a time: what they need in between is that of a few rows, not of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

RowLoss = Callable[..., Tensor]
"""Of N rows: the student's tensor and others, (N, ...) -> (N,). It draws nothing at random, for it is asked twice."""
LARGE = 2**23
"""Numbers in a matrix from which on it is taken in pieces; below that the pieces only cost time (measured)."""
PIECE = 2**19
"""Numbers in a piece: two megabytes, so that what is computed in between stays in a core's cache."""


def piecewise(loss: RowLoss) -> RowLoss:
    """The same loss, of large matrices piece by piece, forward and backward.

    Nothing is kept for the gradient but the tensors themselves; each piece is computed again for it, which costs
    less than fetching from memory what was kept.

    Args:
        loss: of N rows; gradients reach its first tensor only.

    Returns:
        A loss whose values and gradients are those of the loss given, row by row.

    >>> of_rows = piecewise(lambda student, teacher: (student - teacher).square().sum(1))
    >>> of_rows(torch.ones(2, 3), torch.zeros(2, 3)).tolist()
    [3.0, 3.0]
    """

    def pieces(student: Tensor, *others: Tensor) -> Tensor:
        if student.numel() < LARGE or len(student) < 2:
            return loss(student, *others)
        rows = max(1, PIECE * len(student) // student.numel())
        found: Tensor = _Piecewise.apply(loss, rows, student, *others)  # type: ignore[no-untyped-call]  # torch's
        return found

    return pieces


class _Piecewise(torch.autograd.Function):
    """Losses forward, and backward each piece's loss once more for its gradient."""

    @staticmethod
    def forward(ctx: Any, loss: RowLoss, rows: int, student: Tensor, *others: Tensor) -> Tensor:
        ctx.loss, ctx.rows = loss, rows
        ctx.save_for_backward(student, *others)
        return torch.cat([loss(*piece) for piece in _split([student, *others], rows)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        student, *others = ctx.saved_tensors
        found = torch.empty_like(student)
        for out, scale, piece, *beside in _split([found, above, student, *others], ctx.rows):
            leaf = piece.detach().requires_grad_()
            with torch.enable_grad():
                losses = ctx.loss(leaf, *beside)
            out.copy_(torch.autograd.grad(losses, leaf, scale)[0])
        return None, None, found, *(None for _ in others)


def _split(tensors: Sequence[Tensor], rows: int) -> list[tuple[Tensor, ...]]:
    return list(zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True))
