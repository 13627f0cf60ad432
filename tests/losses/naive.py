"""Distributions and divergences class by class, in float64: what the losses are compared with."""

import math
from collections.abc import Callable

from torch import Tensor


def softmax(logits: Tensor, temperature: float = 1.0) -> list[float]:
    """Of one row."""
    scaled = [z / temperature for z in logits.tolist()]
    powers = [math.exp(z - max(scaled)) for z in scaled]
    return [power / sum(powers) for power in powers]


def relative_entropy(p: list[float], q: list[float]) -> float:
    """KL(p || q)."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def of_rows(
    divergence: Callable[[list[float], list[float]], float], temperature: float = 1.0, factor: float | None = None
) -> Callable[[Tensor, Tensor], list[float]]:
    """(student's logits, teacher's) -> T^2, or another factor, times divergence(p of the teacher, q) a row."""
    scale = temperature**2 if factor is None else factor

    def rows(student: Tensor, teacher: Tensor) -> list[float]:
        both = zip(student, teacher, strict=True)
        return [scale * divergence(softmax(t, temperature), softmax(s, temperature)) for s, t in both]

    return rows


def merged(p: list[float], best: list[int]) -> list[float]:
    """The named classes, and all others as one."""
    return [p[c] for c in best] + [sum(x for c, x in enumerate(p) if c not in best)]
