"""Forecasts without anything learnt but how far off they usually are: what every forecaster must beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.windows import Windows
from limbeck.series import LEVELS, MEDIAN
from limbeck.types import Array, Kind
from limbeck.window_reader import FORECAST, layout_of

if TYPE_CHECKING:
    from limbeck.task import Problem


class Naive(nn.Module, ABC):
    """A point for every step, and around it the quantiles of the errors it had on training rows.

    Args:
        horizon: H.
    """

    offsets: Tensor

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.zeros(horizon, len(LEVELS)))

    @abstractmethod
    def points(self, past: Tensor, observed: Tensor) -> Tensor:
        """Windows in the demand's unit, (B, L) each, to points in that unit, (B, H)."""

    def forward(
        self,
        past: Tensor,
        observed: Tensor,
        level: Tensor,
        scale: Tensor,
        known: Tensor | None = None,
        static: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Windows to `values` (B, H) and `quantiles` (B, H, Q)."""
        points = self.points(past * scale[:, None] + level[:, None], observed)
        return {"values": points, "quantiles": points[:, :, None] + self.offsets * scale[:, None, None]}


def latest(past: Tensor, observed: Tensor) -> Tensor:
    """The last demand that was recorded, (B,); that of the first period, which is the level 0, where none was."""
    places = torch.arange(1, past.shape[1] + 1, device=past.device)
    at = (observed * places).argmax(1, keepdim=True)
    return past.gather(1, at).squeeze(1)


@dataclass(frozen=True)
class NaiveForecast:
    """What such families share: they read windows, and are fitted by counting errors."""

    kinds: ClassVar[Mapping[str, Kind]] = FORECAST

    def encoder(self, problem: Problem) -> Encoder:
        """Windows, on the scale of each."""
        return Encoder([Windows.fit(problem.train, layout_of(problem))])

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Take the errors' quantiles, step by step, in units of the windows' scale; the median stays the point.

        Args:
            module: as `module` built it.
            inputs: the encoder's tensors.
            target: (N, H), NaN at steps that do not count.
            weight: of no use here.
        """
        truth = np.asarray(target.toarray() if isinstance(target, sparse.csr_matrix) else target, np.float64)
        with torch.no_grad():
            said = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})["values"].numpy()
        apart = (truth - said) / inputs["scale"][:, None]
        offsets = np.zeros((truth.shape[1], len(LEVELS)), np.float32)
        for step in range(truth.shape[1]):
            there = apart[np.isfinite(apart[:, step]), step]
            if len(there):
                offsets[step] = np.quantile(there, LEVELS)
        # Around a point that is no median the quantiles could cross it.
        offsets[:, :MEDIAN] = np.minimum(offsets[:, :MEDIAN], 0.0)
        offsets[:, MEDIAN] = 0.0
        offsets[:, MEDIAN + 1 :] = np.maximum(offsets[:, MEDIAN + 1 :], 0.0)
        module.load_state_dict({"offsets": torch.from_numpy(offsets)})
