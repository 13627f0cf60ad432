"""Losses on hidden states, tried as a run tries them: sized with a dry batch, then asked."""

from typing import TypeVar

import torch
from torch import Tensor

from limbeck.term import HiddenTerm

SHAPES = [(3, 5), (3, 4, 7), (2, 3, 4, 4)]
"""Of states: of a row, of its tokens, of a picture."""
T = TypeVar("T", bound=HiddenTerm)


def said(term: HiddenTerm, student: Tensor, teacher: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same states at all parts that the term taps."""
    mine = {f"hidden.{path}": student for path in term.student_taps}
    return mine, {f"hidden.{path}": teacher for path in term.teacher_taps}


def sized(term: T, student: Tensor, teacher: Tensor, **batch: Tensor) -> T:
    """The term, once it knows these shapes."""
    torch.manual_seed(0)
    with torch.no_grad():
        term.size(*said(term, student, teacher), batch)
    return term


def value(term: HiddenTerm, student: Tensor, teacher: Tensor, **batch: Tensor) -> Tensor:
    """What the sized term loses."""
    return term(*said(term, student, teacher), batch)


def leaves_out_padding(term: HiddenTerm, **batch: Tensor) -> None:
    """What is said at tokens that are not there changes nothing."""
    student, teacher = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    sized(term, student, teacher)
    wanted = value(term, student, teacher, mask=mask, **batch)
    noise = 9 * (1 - mask.unsqueeze(2))
    torch.testing.assert_close(value(term, student + noise, teacher - noise, mask=mask, **batch), wanted)
    assert not torch.isclose(value(term, student + noise, teacher - noise, **batch), wanted)


def learns(term: HiddenTerm, student: Tensor, teacher: Tensor, *, steps: int = 60, **batch: Tensor) -> None:
    """Descending on a student's states and on all the term owns takes most of the loss away."""
    sized(term, student, teacher, **batch)
    states = student.clone().requires_grad_()
    optimizer = torch.optim.Adam([states, *term.parameters()], 0.05)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = value(term, states, teacher, **batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def stays_finite(term: HiddenTerm, shape: tuple[int, ...] = (3, 5), **batch: Tensor) -> None:
    """States that are huge, zero, all alike; single rows; in both formats: values and gradients."""
    normal, other = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    states = [normal, 1e4 * normal, torch.zeros(shape), torch.ones(shape), normal[:1].expand(shape)]
    sized(term, normal, other, **batch)
    for student in states:
        for teacher in (other, *states):
            for rows in (len(student), 1):
                for dtype in (torch.float32, torch.bfloat16):
                    leaf = student[:rows].to(dtype).clone().requires_grad_()
                    loss = value(term, leaf, teacher[:rows].to(dtype), **{n: t[:rows] for n, t in batch.items()})
                    (gradient,) = torch.autograd.grad(loss, leaf)
                    assert torch.isfinite(loss)
                    assert torch.isfinite(gradient).all()
                    assert gradient.dtype == dtype
