"""Margins bent so that chances are right as often as they say, by validation rows; part of the exported graph."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, logit
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.types import Array

Way = Literal["none", "temperature", "platt", "isotonic"]
KNOTS = 20
"""Where an isotonic map may bend."""
TILT = 1e-3
"""Slope that an isotonic map has at least, so that no two rows change places or become one."""


class Calibration(nn.Module):
    """Margins (B, 1), or logits (B, C) of more classes, to the same in another scale; fresh, it changes nothing.

    | way | what it is | of |
    |---|---|---|
    | `none` | nothing | all |
    | `temperature` | times a number above 0 | all |
    | `platt` | times a number above 0, plus a number | margins |
    | `isotonic` | a rising line with bends | margins |

    Args:
        way: one of these.
        outputs: H, 1 for margins.

    Raises:
        UserError: a way for margins, and more classes than two.
    """

    knots: Tensor
    slopes: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, way: Way, outputs: int) -> None:
        super().__init__()
        if outputs > 1 and way in ("platt", "isotonic"):
            raise UserError(f"calibration '{way}' is for two classes; of more, 'temperature' keeps the order")
        self.way = way
        if way != "none":
            self.register_buffer("scale", torch.ones(()))
            self.register_buffer("shift", torch.zeros(()))
        if way == "isotonic":
            self.register_buffer("knots", torch.zeros(KNOTS))
            self.register_buffer("slopes", torch.zeros(KNOTS))

    def forward(self, said: Tensor) -> Tensor:
        """(B, H) to (B, H)."""
        if self.way == "none":
            return said
        line = said * self.scale + self.shift
        if self.way != "isotonic":
            return line
        return line + (torch.relu(said - self.knots) * self.slopes).sum(1, keepdim=True)

    def fit(self, said: Array, label: Array) -> None:
        """Set its numbers by rows that the weights were not trained on.

        Args:
            said: (N, H), before calibration.
            label: positions, int64 (N,).
        """
        if self.way == "none":
            return
        if self.way == "isotonic":
            self._bend(said[:, 0].astype(np.float64), label)
            return
        scale, shift = straight(said.astype(np.float64), label, shifted=self.way == "platt")
        self.scale.fill_(scale)
        self.shift.fill_(shift)

    def _bend(self, margin: Array, label: Array) -> None:
        from sklearn.isotonic import IsotonicRegression

        sure = 1.0 / (len(label) + 2)  # nothing is certain that was seen so often
        solved = IsotonicRegression(y_min=sure, y_max=1 - sure, out_of_bounds="clip").fit(margin, label)
        knots = np.unique(np.quantile(margin, np.linspace(0.0, 1.0, KNOTS)))
        height = logit(solved.predict(knots)) + TILT * (knots - knots[0])
        rises = np.diff(height) / np.diff(knots) if len(knots) > 1 else np.zeros(0)
        slopes = np.concatenate([[TILT], rises, [TILT]])  # before, between and behind the knots
        bends = np.zeros(KNOTS)
        bends[: len(knots)] = np.diff(slopes)
        self.scale.fill_(slopes[0])
        self.shift.fill_(height[0] - slopes[0] * knots[0])
        self.knots.copy_(torch.from_numpy(np.pad(knots, (0, KNOTS - len(knots)))))
        self.slopes.copy_(torch.from_numpy(bends))


def straight(said: Array, label: Array, *, shifted: bool) -> tuple[float, float]:
    """The scale (above 0) and shift of margins or logits under which labels are likeliest.

    Source: Platt 1999; Guo et al. 2017 (temperature scaling, the scale alone).

    >>> scale, shift = straight(np.array([[4.0], [4.0], [-4.0], [-4.0]]), np.array([1, 0, 1, 0]), shifted=True)
    >>> round(scale, 2), round(shift, 2)
    (0.0, 0.0)
    """

    def loss(numbers: Array) -> float:
        bent = said * np.exp(numbers[0]) + (numbers[1] if shifted else 0.0)
        if said.shape[1] == 1:
            return float(np.mean(np.logaddexp(0.0, np.where(label == 1, -1.0, 1.0) * bent[:, 0])))
        return float(-np.mean(np.take_along_axis(log_softmax(bent, axis=1), label[:, None], 1)))

    found = minimize(loss, np.zeros(2 if shifted else 1), method="L-BFGS-B", bounds=[(-8, 4), (-20, 20)][: 1 + shifted])
    return float(np.exp(found.x[0])), float(found.x[1]) if shifted else 0.0
