"""Linear heads onto large axes, such as vocabularies and catalogues: losses of their logits without all of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from limbeck.piecewise import PIECE, RowLoss
from limbeck.taps import BIAS, INPUT, WEIGHT

BLOCK = 2**24
"""Numbers in a block of logits, at most, however few rows that makes."""
ROWS = 64
"""Rows in a block, if they may be: for fewer the head's weights are fetched from memory too often."""


class Head(NamedTuple):
    """Logits that are not computed yet: hidden @ weight.T + bias.

    Args:
        hidden: (N, D).
        weight: (V, D), of any dtype; hidden states are turned into it.
        bias: (V,), or none.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def logits(self, rows: slice, out: Tensor) -> Tensor:
        """Those of some rows, written over the beginning of `out`, (n, V)."""
        states = self.hidden[rows].to(self.weight.dtype)
        found = torch.mm(states, self.weight.T, out=out[: len(states)])
        return found if self.bias is None else found.add_(self.bias)


def head_of(signals: Mapping[str, Tensor], path: str) -> Head:
    """The head that was tapped there, of hidden states (B, D) or (B, T, D)."""
    return Head(signals[INPUT + path], signals[WEIGHT + path], signals.get(BIAS + path))


class Scores(nn.Module):
    """The head of a model whose outputs are vectors that it also reads, such as the items of a catalogue.

    It has no weights of its own; what it is called with can be tapped like the weights of an `nn.Linear`.
    """

    def forward(self, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Hidden states (..., D), vectors (N, D) and biases (N,) to scores (..., N)."""
        return hidden @ weight.T + bias


def fused(loss: RowLoss, student: Head, others: Sequence[Tensor | Head], *, share: Tensor) -> Tensor:
    """The weighted sum of a loss between logits, of which only a block of rows is there at a time.

    The gradient is computed together with the value, since only the first pass has the logits. Beside the
    gradients of the head itself it takes the memory of one block of logits, and of another for each other head.

    Args:
        loss: (student's logits (n, V), others' rows) -> (n,), such as a divergence; T^2 and all else is its own.
        student: gradients reach all three parts.
        others: what the loss also reads: tensors of N rows, such as a teacher's stored logits, or a teacher's head.
            No gradient reaches them.
        share: what each row counts, (N,), 1 / N for the mean.

    Returns:
        Scalar, float32.

    Source: the order of work of Liger-Kernel's fused linear cross-entropy (Hsu et al. 2024), for any loss and
    without kernels of its own.

    >>> head = Head(torch.ones(2, 1), torch.tensor([[1.0], [3.0]]))
    >>> fused(lambda student, label: student[:, 0] - label, head, [torch.zeros(2)], share=torch.ones(2)).item()
    2.0
    """
    wanted = torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in student)
    total: Tensor = _Fused.apply(loss, others, share.detach(), wanted, *student)  # type: ignore[no-untyped-call]  # torch's
    return total


def rows_of_a_block(classes: int) -> int:
    """How many rows of logits are there at a time.

    >>> [rows_of_a_block(classes) for classes in (1_000, 151_936, 1_000_000, 20_000_000)]
    [524, 64, 16, 1]
    """
    return max(1, PIECE // classes, min(ROWS, BLOCK // classes))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: RowLoss, others: Sequence[Tensor | Head], share: Tensor, wanted: bool, *parts: Any
    ) -> Tensor:
        student = Head(*parts)
        sums = _Sums(student, ctx.needs_input_grad[4:] if wanted else [False] * 3)
        step = max(1, min(len(share), rows_of_a_block(len(student.weight))))
        room = [one.weight.new_empty(step, len(one.weight)) if isinstance(one, Head) else one for one in others]
        logits = student.weight.new_empty(step, len(student.weight))
        total = torch.zeros((), device=share.device)
        with torch.autocast(share.device.type, enabled=False):
            for start in range(0, len(share), step):
                rows = slice(start, min(start + step, len(share)))
                mine = student.logits(rows, logits)
                pairs = zip(others, room, strict=True)
                theirs = [one.logits(rows, out) if isinstance(one, Head) else one[rows] for one, out in pairs]
                total += _value(loss, mine, theirs, share[rows].float(), wanted=wanted)
                if wanted:
                    sums.add(rows, mine)
        ctx.save_for_backward(*sums.gradients())
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        # Never in place: a gradient may be asked for twice.
        found = [None if one is None else one * above.to(one.dtype) for one in ctx.saved_tensors]
        return None, None, None, None, *found


def _value(loss: RowLoss, logits: Tensor, others: Sequence[Tensor], share: Tensor, *, wanted: bool) -> Tensor:
    """The weighted sum over a block; where the gradient is wanted, it is written over the student's logits."""
    total = torch.zeros((), device=share.device)
    step = max(1, PIECE // logits.shape[1])
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        leaf = logits[rows].detach().requires_grad_(wanted)
        with torch.set_grad_enabled(wanted):
            value = torch.linalg.vecdot(loss(leaf, *(other[rows] for other in others)), share[rows])
        total += value.detach()
        if wanted:
            logits[rows] = torch.autograd.grad(value, leaf)[0]
    return total


class _Sums:
    """Gradients of a head's parts, gathered block by block; in float32 at least, for they have many addends."""

    def __init__(self, head: Head, needs: Sequence[bool]) -> None:
        self.head = head
        self.hidden = torch.empty_like(head.hidden) if needs[0] else None
        self.weight = _zeros(head.weight) if needs[1] else None
        self.bias = _zeros(head.bias) if needs[2] and head.bias is not None else None

    def add(self, rows: slice, above: Tensor) -> None:
        """Those of a block, from the gradient of its logits."""
        if self.hidden is not None:
            self.hidden[rows] = above @ self.head.weight
        states = self.head.hidden[rows].to(above.dtype)
        if self.weight is not None and self.weight.dtype == above.dtype:
            self.weight.addmm_(above.T, states)
        elif self.weight is not None:
            self.weight += above.T @ states
        if self.bias is not None:
            self.bias += above.sum(0)

    def gradients(self) -> list[Tensor | None]:
        """Of hidden states, weight and bias, in their dtypes."""
        found = zip((self.hidden, self.weight, self.bias), self.head, strict=True)
        return [None if one is None or part is None else one.to(part.dtype) for one, part in found]


def _zeros(part: Tensor) -> Tensor:
    return torch.zeros_like(part, dtype=torch.promote_types(part.dtype, torch.float32))


def picked(head: Head, ids: Tensor) -> Tensor:
    """Some logits of each row, and no others.

    Memory is that of the logits that are asked for, and of a piece of their weights; the gradient of the weights is
    as large as these.

    Args:
        head: of N rows; gradients reach all three parts.
        ids: positions on the large axis, (N, K).

    Returns:
        (N, K).

    >>> picked(Head(torch.ones(1, 2), torch.tensor([[1.0, 1.0], [3.0, 4.0]])), torch.tensor([[1, 0]])).tolist()
    [[7.0, 2.0]]
    """
    found: Tensor = _Picked.apply(head.hidden.to(head.weight.dtype), head.weight, ids)  # type: ignore[no-untyped-call]  # torch's
    return found if head.bias is None else found + head.bias[ids]


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight, ids)
        ctx.rows = max(1, PIECE // max(1, ids.shape[1] * weight.shape[1]))
        pieces = zip(torch.split(hidden, ctx.rows), torch.split(ids, ctx.rows), strict=True)
        return torch.cat([torch.bmm(weight[some], states.unsqueeze(2)).squeeze(2) for states, some in pieces])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, ids = ctx.saved_tensors
        states = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        table = _zeros(weight) if ctx.needs_input_grad[1] else None
        for start in range(0, len(hidden), ctx.rows):
            rows = slice(start, start + ctx.rows)
            if states is not None:
                states[rows] = torch.bmm(above[rows].unsqueeze(1), weight[ids[rows]]).squeeze(1)
            if table is not None:
                each = above[rows].unsqueeze(2) * hidden[rows].unsqueeze(1)
                table.index_add_(0, ids[rows].flatten(), each.flatten(0, 1).to(table.dtype))
        return states, None if table is None else table.to(weight.dtype), None
