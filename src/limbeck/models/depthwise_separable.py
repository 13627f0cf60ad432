"""Convolutions taken apart, one a channel and one across channels: the MobileNet kind."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.picture_reader import PictureNetwork, convolution, picture_of

FEWEST = 8


@dataclass(frozen=True)
class DepthwiseSeparable(PictureNetwork):
    """A first convolution, then separable ones.

    Args:
        widths: channels of each layer before the multiplier; a width that grows halves height and width.
        multiplier: of every width; they are rounded to 8, as vector units like them.
        stride: of the first convolution; 2 for pictures of a hundred pixels and more.

    Source: Howard et al. 2017 (MobileNets), equation 6 for the multiplier.
    """

    widths: tuple[int, ...] = (32, 64, 64, 128, 128)
    multiplier: float = 1.0
    stride: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1 or self.stride < 1:
            raise UserError(f"widths is {list(self.widths)}, stride {self.stride}; every one must be at least 1")
        if not self.multiplier > 0:
            raise UserError(f"multiplier is {self.multiplier}; it must be above 0")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        widths = [max(FEWEST, round(width * self.multiplier / FEWEST) * FEWEST) for width in self.widths]
        layers: list[nn.Module] = [convolution(picture_of(encoder).channels, widths[0], stride=self.stride)]
        for number in range(1, len(widths)):
            into, out = widths[number - 1], widths[number]
            grows = self.widths[number] > self.widths[number - 1]
            layers += [convolution(into, into, stride=2 if grows else 1, groups=into), convolution(into, out, kernel=1)]
        return self.pooled(nn.Sequential(*layers), widths[-1], outputs)
