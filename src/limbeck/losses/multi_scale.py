"""Multi-scale and frequency matching: a forecast has its teacher's course, trend and rhythm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.divergence import forward_kl
from limbeck.errors import UserError
from limbeck.setting import above_zero, at_least_zero
from limbeck.term import RowTerm


def multi_scale(
    student: Tensor, teacher: Tensor, *, halvings: int = 3, frequency_weight: float = 1.0, temperature: float = 0.5
) -> Tensor:
    """Mean over scales of mean (s_m - t_m)^2 + w T^2 KL(softmax(|F t| / T) || softmax(|F s| / T)).

    s_m and t_m are the forecasts averaged over 2^m steps, m = 0 to `halvings`, as far as two steps are left to
    average; F is the real Fourier transform over steps, less its constant.

    Args:
        student: forecasts, (B, H) or (B, H, N) of N series.
        teacher: forecasts, of the same shape and unit; no gradient reaches them.
        halvings: 0 or more.
        frequency_weight: w >= 0.
        temperature: T > 0, in the unit of the amplitudes.

    Returns:
        (B,), the unit squared plus nats: meant for standardised series.

    Source: Ni et al. 2025 (TimeDistill), on forecasts; hidden states are for a feature loss. Their
    code divides the divergence by the number of frequencies too and carries no T^2: at T = 0.5 and 96 steps
    their second part weighs a twelfth of this one at w = 1.

    >>> multi_scale(torch.ones(1, 4), torch.zeros(1, 4)).item()
    1.0
    """
    mine, theirs = (_series(x.float()) for x in (student, teacher.detach()))
    frequency = mine.new_zeros(len(mine))
    if mine.shape[2] > 1 and frequency_weight > 0:
        apart_in_rhythm = forward_kl(_rhythm(mine), _rhythm(theirs), temperature=temperature)
        frequency = frequency_weight * apart_in_rhythm.mean(1)
    apart = mine - theirs  # averaging is linear: once for both
    errors = [(apart**2).mean((1, 2))]
    while len(errors) <= halvings and apart.shape[2] > 1:
        apart = functional.avg_pool1d(apart, 2)
        errors.append((apart**2).mean((1, 2)))
    return torch.stack(errors).mean(0) + frequency


def _series(forecasts: Tensor) -> Tensor:
    """(B, N, H)."""
    return forecasts.unsqueeze(1) if forecasts.ndim == 2 else forecasts.transpose(1, 2)


def _rhythm(series: Tensor) -> Tensor:
    """The amplitudes of all frequencies but the constant, (B, N, H / 2)."""
    return torch.fft.rfft(series, dim=2)[..., 1:].abs()


class MultiScale(RowTerm):
    """For forecasts with trend and season, whose shape matters more than each step's error, as in `squared_error`.

    | reads | from |
    |---|---|
    | `values` (B, H) or (B, H, N) | student, teacher |

    Args:
        halvings: how many times the forecasts are averaged two by two and compared again.
        frequency_weight: of matching the rhythm, beside the course.
        temperature: T of the amplitudes; small shows only the strongest rhythm.
        signal: the name of the forecasts.
    """

    group: ClassVar[str] = "sequence"
    paper: ClassVar[str] = "Ni et al. 2025"

    def __init__(
        self, *, halvings: int = 3, frequency_weight: float = 1.0, temperature: float = 0.5, signal: str = "values"
    ) -> None:
        super().__init__()
        self.halvings = int(at_least_zero("halvings", halvings))
        self.frequency_weight = at_least_zero("frequency_weight", frequency_weight)
        self.temperature = above_zero("temperature", temperature)
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A loss a row."""
        mine, theirs = student[self.signal], teacher[self.signal]
        if mine.ndim not in (2, 3) or mine.shape != theirs.shape:
            raise UserError(
                f"the student's forecasts have shape {tuple(mine.shape)}, the teacher's {tuple(theirs.shape)}; "
                "both must be (B, H) or (B, H, N), of the same steps"
            )
        return multi_scale(
            mine,
            theirs,
            halvings=self.halvings,
            frequency_weight=self.frequency_weight,
            temperature=self.temperature,
        )

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's forecasts."""
        return teacher[self.signal].float() if self.signal in teacher else None
