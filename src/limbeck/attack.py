"""Attacks on pictures: moved a little, to where a model's answer is worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.threat import Threat

Harm = Callable[[Tensor], Tensor]
"""Raw logits (B, C) to what an attacker wants to be large, (B,)."""
Says = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Rows to signals."""


def unit(picture: Tensor) -> Tensor:
    """Pictures as numbers in [0, 1]: bytes over 255, or numbers as they are.

    >>> unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist(), unit(torch.tensor([0.25])).tolist()
    ([0.0, 1.0], [0.25])
    """
    return picture if picture.is_floating_point() else picture / 255.0


def against_label(label: Tensor) -> Harm:
    """Cross-entropy of labels, positions (B,)."""
    return lambda logits: functional.cross_entropy(logits.float(), label, reduction="none")


def against_answer(answer: Tensor) -> Harm:
    """KL(softmax(answer) || softmax(logits)), answer being raw logits (B, C)."""
    p = torch.softmax(answer.detach().float(), 1)
    return lambda logits: functional.kl_div(torch.log_softmax(logits.float(), 1), p, reduction="none").sum(1)


def pgd(
    says: Callable[[Tensor], Tensor],
    picture: Tensor,
    harm: Harm,
    threat: Threat,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent in the L-infinity ball: every step goes `step` along the sign of the gradient.

    Args:
        says: pictures, numbers in [0, 1], to raw logits (B, C). Gradients reach nothing but the pictures; the mode of
            a network and the statistics of its batch normalisation are the caller's to hold (`still`).
        picture: (B, C, H, W), bytes, or numbers in [0, 1].
        harm: what to make large.
        threat: how far and how often.
        generator: of the random start; torch's own by default.

    Returns:
        Numbers of that shape in [0, 1], none further than `radius` from the picture's.

    Source: Madry et al. 2018, section 2.1. FGSM is one step of the whole radius from the picture itself.

    >>> brighter = lambda picture: picture.flatten(1) @ torch.tensor([[-1.0, 1.0]])
    >>> threat = Threat(radius=0.25, step=0.1, steps=5)
    >>> pgd(brighter, torch.full((1, 1, 1, 1), 0.5), against_label(torch.tensor([1])), threat).item()
    0.25
    """
    clean = unit(picture).detach()
    low, high = (clean - threat.radius).clamp(min=0.0), (clean + threat.radius).clamp(max=1.0)
    moved = clean
    if threat.random_start:
        start = torch.rand(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        moved = torch.clamp(clean + (2 * start - 1) * threat.radius, low, high)
    for _ in range(threat.steps):
        moved = moved.detach().requires_grad_()
        with torch.enable_grad():
            lost = harm(says(moved)).sum()
        (slope,) = torch.autograd.grad(lost, moved)
        moved = torch.clamp(moved.detach() + threat.step * slope.sign(), low, high)
    return moved.detach()


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Everything in eval mode meanwhile: an attack neither drops units nor moves running statistics."""
    before = [(part, part.training) for part in module.modules()]
    for part, _ in before:
        part.training = False
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


class Attacker:
    """Attacks the rows a student is about to learn from.

    Args:
        threat: what it may do.
        student: whose mode and statistics stay as they are.
        says: the same student, rows to signals; it is asked for `logits`, and is in eval mode meanwhile.
        generator: of random starts; torch's own by default, which a training's checkpoints hold.
    """

    def __init__(self, threat: Threat, student: nn.Module, says: Says, generator: torch.Generator | None = None):
        self.threat = threat
        self.student = student
        self.says = says
        self.generator = generator

    def __call__(self, rows: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows with their pictures (`picture`, or else `x`) attacked.

        Args:
            rows: with pictures, (B, C, H, W), bytes or numbers in [0, 1]; and `label`, where labels are attacked.
            known: what the teacher says of them; empty where there is none.

        Raises:
            UserError: there are no such pictures, or nothing they could be moved away from.
        """
        name = self.check(rows)

        def logits(picture: Tensor) -> Tensor:
            return self.says({**rows, name: picture})["logits"]

        with still(self.student):
            harm = self._harm(rows, known, lambda: logits(unit(rows[name])))
            return {**rows, name: pgd(logits, rows[name], harm, self.threat, generator=self.generator)}

    def check(self, rows: Mapping[str, Tensor]) -> str:
        """The name of the pictures among the rows' columns.

        Raises:
            UserError: there are none.
        """
        name = next((name for name in ("picture", "x") if name in rows), None)
        if name is None or rows[name].ndim != 4:
            raise UserError(f"attack: the batch has {', '.join(rows)}; pictures (B, C, H, W) were wanted, as 'picture'")
        if rows[name].is_floating_point() and not 0 <= float(rows[name].min()) <= float(rows[name].max()) <= 1:
            raise UserError(
                f"attack: '{name}' holds numbers from {float(rows[name].min()):.3g} to {float(rows[name].max()):.3g}; "
                "give bytes, or numbers in [0, 1], and let the network itself normalise them"
            )
        return name

    def _harm(self, rows: Mapping[str, Tensor], known: Mapping[str, Tensor], own: Callable[[], Tensor]) -> Harm:
        if self.threat.against == "teacher" and known:
            if "logits" not in known:
                said = ", ".join(known)
                raise UserError(f"attack: against is teacher, whose whole 'logits' it needs; it says: {said}")
            return against_answer(known["logits"])
        if "label" not in rows:
            raise UserError(f"attack: nothing to move pictures away from: the batch has {', '.join(rows)}, no 'label'")
        label = rows["label"]
        return against_label(
            torch.where(label < 0, own().detach().argmax(1), label) if bool((label < 0).any()) else label
        )
