"""Logistic regression on a picture's pixels: the trivial baseline of picture classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.logistic import logistic
from limbeck.picture_reader import PictureReader, Pixels, picture_of
from limbeck.types import Array

CHUNK = 4096


class LinearPixels(nn.Module):
    """Pixels, pooled to a small picture, to logits.

    Args:
        pixels: makes numbers of pictures.
        size: height and width of the pictures.
        cell: pixels a side that are pooled to one.
        channels: of the pictures.
        outputs: C.
    """

    def __init__(self, pixels: Pixels, size: tuple[int, int], cell: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.cell = cell
        self.head = nn.Linear(channels * (size[0] // cell) * (size[1] // cell), outputs)

    def features(self, picture: Tensor) -> Tensor:
        """Bytes (B, channels, H, W) to numbers (B, D)."""
        return F.avg_pool2d(self.pixels(picture), self.cell).flatten(1)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Bytes (B, channels, H, W) to logits (B, C)."""
        return {"logits": self.head(self.features(picture))}


@dataclass(frozen=True)
class PixelLinear(PictureReader):
    """Logistic regression on pixels.

    Args:
        side: pixels of the longer side, about, to which a picture is pooled first.
        inverse_l2: scikit-learn's C; less is a stronger penalty.
        iterations: of the solver at most; a baseline need not be solved to the last digit.
    """

    side: int = 14
    inverse_l2: float = 0.1
    iterations: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side < 1 or self.iterations < 1 or not self.inverse_l2 > 0:
            raise UserError(
                f"side is {self.side}, iterations {self.iterations}, inverse_l2 {self.inverse_l2}; all must be above 0"
            )

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        picture = picture_of(encoder)
        cell = max(1, max(picture.size) // self.side)
        return LinearPixels(self.pixels(), picture.size, min(cell, *picture.size), picture.channels, outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Fit with scikit-learn."""
        assert isinstance(module, LinearPixels), "the module is this family's own"
        pictures = inputs["picture"]
        with torch.inference_mode():
            pieces = [
                module.features(torch.from_numpy(pictures[i : i + CHUNK])) for i in range(0, len(pictures), CHUNK)
            ]
        features = torch.cat(pieces).double().numpy()
        coefficients, bias = logistic(features, target, weight, inverse_l2=self.inverse_l2, iterations=self.iterations)
        module.load_state_dict({"head.weight": torch.from_numpy(coefficients), "head.bias": torch.from_numpy(bias)})
