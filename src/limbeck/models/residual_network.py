"""A residual network trained from nothing: the teacher where no pretrained backbone is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.picture_reader import PictureNetwork, picture_of

SMALL = 64
"""Pictures above this many pixels a side are first brought to a quarter of their size, as ImageNet's are."""


class Block(nn.Module):
    """Two convolutions, each after batch normalisation and ReLU, added to what came in.

    Args:
        into, out: channels.
        stride: of the first convolution.
    """

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(into)
        self.first = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.between = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(into, out, 1, stride, bias=False) if (into, stride) != (out, 1) else None
        for filters in (self.first, self.second):
            nn.init.kaiming_normal_(filters.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, states: Tensor) -> Tensor:
        """States (B, into, H, W) to (B, out, H / stride, W / stride)."""
        ready = F.relu(self.before(states))
        around = states if self.shortcut is None else self.shortcut(ready)
        changed: Tensor = self.second(F.relu(self.between(self.first(ready))))
        return changed + around


def stem(channels: int, width: int, *, large: bool) -> nn.Module:
    """Pictures to the first states; large ones at a quarter of their size."""
    if not large:
        return nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return nn.Sequential(nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1))


@dataclass(frozen=True)
class ResidualNetwork(PictureNetwork):
    """A wide residual network, pre-activated.

    Args:
        widths: channels of each stage; every stage but the first halves height and width.
        blocks: a stage, two convolutions each.

    Source: He et al. 2016 (identity mappings); Zagoruyko and Komodakis 2016 (wide).
    """

    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1 or self.blocks < 1:
            raise UserError(f"widths is {list(self.widths)}, blocks {self.blocks}; every one must be at least 1")

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        picture, last = picture_of(encoder), self.widths[-1]
        stages = [self._stage(into, out, 2) for into, out in pairwise(self.widths)]
        features = nn.Sequential(
            stem(picture.channels, self.widths[0], large=max(picture.size) > SMALL),
            self._stage(self.widths[0], self.widths[0], 1),
            *stages,
            nn.Sequential(nn.BatchNorm2d(last), nn.ReLU()),
        )
        return self.pooled(features, last, outputs)

    def _stage(self, into: int, out: int, stride: int) -> nn.Module:
        return nn.Sequential(Block(into, out, stride), *(Block(out, out, 1) for _ in range(self.blocks - 1)))
