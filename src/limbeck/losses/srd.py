"""Simple recipe distillation: standardised states, with the logarithm of their distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.term import HiddenTerm

LEAST = 1e-6
"""Added before the logarithm, so that a student who says the very same has a finite loss and no gradient."""


def srd(student: Tensor, teacher: Tensor, *, exponent: float = 4.0) -> Tensor:
    """Log mean |z(student) - z(teacher)|^exponent, z(x) = (x - mean) / deviation of each width over the batch.

    Args:
        student: states in the teacher's shape: (B, D), (B, T, D) or (B, C, H, W).
        teacher: states; no gradient reaches them.
        exponent: 1 or more; higher looks at the widths that are furthest off.

    Returns:
        Scalar; below 0 for a student who is near. A single row without places says nothing: the gradient is 0.

    Source: Miles and Mikolajczyk 2024, section 3 (their LogSum, with the power they recommend), with a mean in place
    of the sum, which moves the value by a constant and leaves the gradient.

    >>> import torch
    >>> wrong = srd(torch.tensor([[1.0], [-1.0]]), torch.tensor([[-2.0], [2.0]]), exponent=2.0)
    >>> round(wrong.item(), 3)  # log 4
    1.386
    """
    apart = _standard(student) - _standard(teacher.detach())
    return (apart.abs().pow(exponent).mean() + LEAST).log()


def _standard(states: Tensor) -> Tensor:
    flat = states.float() if states.ndim == 4 else states.float().flatten(0, -2)
    if flat[:, 0].numel() == 1:  # which torch refuses
        return flat - flat
    return functional.batch_norm(flat, None, None, training=True)


class Srd(HiddenTerm):
    """`fit_net` whose size the states' scale does not set, so that one weight fits many pairs; usual weight 2.

    The name is that of "simple recipe distillation". Softmax regression representation (Yang et al. 2021, SRRL)
    is another method: it needs the teacher's classifier itself, which is no signal. Rows are standardised
    together, so their weights do not count.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |

    Args:
        exponent: 1 or more; higher looks at the widths that are furthest off.
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Miles and Mikolajczyk 2024"

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], exponent: float = 4.0) -> None:
        super().__init__(student=student, teacher=teacher)
        if not 1 <= exponent < float("inf"):
            raise UserError(f"exponent is {exponent}; it must be 1 or more")
        self.exponent = exponent

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, summed over pairs of parts."""
        return torch.stack([srd(*both, exponent=self.exponent) for both in self.pairs(student, teacher)]).sum()
