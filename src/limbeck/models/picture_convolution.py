"""A small convolutional network: plain convolutions, pooled over the whole picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.picture_reader import PictureNetwork, convolution, picture_of


@dataclass(frozen=True)
class PictureConvolution(PictureNetwork):
    """Convolutions with batch normalisation, each halving height and width but the first.

    Args:
        widths: channels of each convolution.

    Source: the all-convolutional nets of Springenberg et al. 2015, with batch normalisation.
    """

    widths: tuple[int, ...] = (16, 32, 64)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1:
            raise UserError(f"widths is {list(self.widths)}; it must name one width at least, each 1 or more")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        into, layers = picture_of(encoder).channels, []
        for number, width in enumerate(self.widths):
            layers.append(convolution(into, width, stride=1 if number == 0 else 2))
            into = width
        return self.pooled(nn.Sequential(*layers), into, outputs)
