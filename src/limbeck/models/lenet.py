"""LeNet-5's size and shape, with what has been learnt since: ReLU and maxima instead of sigmoids and means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.picture_reader import PictureModule, PictureNetwork, Pixels, picture_of

SMALLEST = 12


class LeNet(PictureModule):
    """Two convolutions with maxima, two hidden layers, logits.

    Args:
        pixels: makes numbers of pictures.
        size: height and width of the pictures, at least 12 pixels each.
        channels: of the pictures.
        outputs: C.
        dropout: share of the hidden numbers that training hides.
        mirror: as `PictureModule` says.
    """

    def __init__(
        self,
        pixels: Pixels,
        size: tuple[int, int],
        channels: int,
        outputs: int,
        *,
        dropout: float,
        mirror: bool,
    ) -> None:
        super().__init__(pixels, mirror=mirror)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        states = 16 * math.prod((side // 2 - 4) // 2 for side in size)
        self.hidden = nn.Sequential(nn.Linear(states, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(84, outputs)

    def answer(self, numbers: Tensor) -> Tensor:
        """Numbers (B, channels, H, W) to logits (B, C)."""
        logits: Tensor = self.head(self.dropout(self.hidden(self.features(numbers).flatten(1))))
        return logits


@dataclass(frozen=True)
class Lenet(PictureNetwork):
    """A network of LeNet-5's size: 61,706 parameters for 28 by 28 grey pixels and ten classes.

    Source: LeCun et al. 1998.
    """

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        picture = picture_of(encoder)
        if min(picture.size) < SMALLEST:
            raise UserError(f"pictures are {picture.size[0]} x {picture.size[1]}; lenet needs {SMALLEST} pixels a side")
        size, channels = picture.size, picture.channels
        return LeNet(self.pixels(), size, channels, outputs, dropout=self.dropout, mirror=self.mirror)
