"""What forecasters of windows share: settings, what they read, and quantiles that never cross."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.encoders.windows import Scaling, Windows
from limbeck.errors import UserError
from limbeck.series import LEVELS, MEDIAN, Layout
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

FORECAST: Mapping[str, Kind] = {"values": "values", "quantiles": "quantiles"}


@dataclass(frozen=True)
class WindowReader:
    """Settings of every forecaster that reads windows.

    Args:
        scaling: what past demand becomes: `standard`, `center` (for logarithms of demand), or `identity`.
        back: dates looked back on of which what was known is read one by one; of all together its mean is.
    """

    scaling: Scaling = "standard"
    back: int = 4

    kinds: ClassVar[Mapping[str, Kind]] = FORECAST

    def encoder(self, problem: Problem) -> Encoder:
        """Windows, fitted on training rows."""
        return Encoder([Windows.fit(problem.train, layout_of(problem), scaling=self.scaling, back=self.back)])


def layout_of(problem: Problem) -> Layout:
    """How the problem's windows were cut.

    Raises:
        UserError: they were not.
    """
    if "past" not in problem.train.names or "windows" not in problem.columns:
        raise UserError(
            "no column has the role 'series', so there are no windows to read; forecasters are for the task demand"
        )
    return Layout.load(problem.columns["windows"])


def windows_of(encoder: Encoder) -> Windows:
    """The encoding of an encoder that a `WindowReader` made."""
    (found,) = encoder.encodings
    assert isinstance(found, Windows)
    return found


def check_share(name: str, share: float) -> None:
    """Refuse a share that is none.

    Raises:
        UserError: it is below 0, or not below 1.
    """
    if not 0 <= share < 1:
        raise UserError(f"{name} is {share}; it must be at least 0 and below 1")


class Statics(nn.Module):
    """A vector for every static category, side by side.

    Args:
        windows: fitted.
        width: numbers a category's vector.
        unknown: share of the categories shown as unknown in training, so that new ones are no surprise.
    """

    def __init__(self, windows: Windows, width: int, *, unknown: float = 0.0) -> None:
        super().__init__()
        self.count = len(windows.categories)
        self.width = self.count * width
        self.unknown = unknown
        self.table = nn.Embedding(windows.size, width) if self.count else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, static: Tensor | None, rows: Tensor) -> Tensor:
        """Ids (B, C) to (B, C * width); (B, 0) where there are none."""
        if self.table is None or static is None:
            return rows.new_zeros(len(rows), 0)
        if self.training and self.unknown > 0:
            static = torch.where(torch.rand(static.shape, device=static.device) < self.unknown, 1, static)
        vectors: Tensor = self.table(static)
        return vectors.flatten(1)


def forecast(raw: Tensor, level: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Numbers on the window's scale to forecasts in the demand's unit.

    Args:
        raw: (B, H, Q): at the median's place the median, at every other the distance to its neighbour, before softplus.
        level: of the windows, (B,), in the demand's unit.
        scale: of the windows, (B,), in the demand's unit.

    Returns:
        `values` (B, H), the medians, and `quantiles` (B, H, Q), which never cross.
    """
    median = raw[:, :, MEDIAN : MEDIAN + 1]
    below = median - F.softplus(raw[:, :, :MEDIAN]).flip(2).cumsum(2).flip(2)
    above = median + F.softplus(raw[:, :, MEDIAN + 1 :]).cumsum(2)
    quantiles = torch.cat([below, median, above], 2) * scale[:, None, None] + level[:, None, None]
    return {"values": quantiles[:, :, MEDIAN], "quantiles": quantiles}


QUANTILES = len(LEVELS)
