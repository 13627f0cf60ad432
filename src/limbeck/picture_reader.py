"""What models that read pictures share: size and channels, found on training rows, and pixels made numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from limbeck.attack import unit
from limbeck.encoder import Encoder
from limbeck.encoders.picture import Picture
from limbeck.errors import UserError
from limbeck.picture import Resize, shape
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

LOOKED_AT = 256
LARGEST = 224


class Pixels(nn.Module):
    """Pixels to numbers around 0, laid out as convolutions like them.

    Args:
        mean, deviation: of a channel's values in [0, 1]; one for all channels, or one each.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        # Settings rather than weights: nothing to save, or to count.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Bytes (B, C, H, W), or numbers in [0, 1] as attacks make them, to numbers of that shape."""
        numbers = (unit(picture).to(self.mean.dtype) - self.mean) / self.deviation
        return numbers if torch.compiler.is_exporting() else numbers.to(memory_format=torch.channels_last)


class PictureModule(nn.Module, ABC):
    """Bytes to logits; a subclass says in `answer` how numbers become logits.

    Args:
        pixels: makes numbers of pictures.
        mirror: whether a picture and its mirror image mean the same: training sees either, at random, and an
            answer is the mean of both.
    """

    rates: Mapping[str, float] = {}
    still: tuple[nn.Module, ...] = ()

    def __init__(self, pixels: Pixels, *, mirror: bool) -> None:
        super().__init__()
        self.pixels = pixels
        self.mirror = mirror

    def hold(self, parts: Iterable[nn.Module]) -> None:
        """Let parts stay as they came, statistics of their batch normalisation included."""
        self.still = tuple(part.requires_grad_(False).eval() for part in parts)

    def train(self, mode: bool = True) -> Self:
        """Training or eval mode, of all but what stays."""
        super().train(mode)
        for part in self.still:
            part.eval()
        return self

    @abstractmethod
    def answer(self, numbers: Tensor) -> Tensor:
        """Numbers (B, channels, H, W) to logits (B, C)."""

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Bytes (B, channels, H, W) to logits (B, C)."""
        numbers = self.pixels(picture)
        if not self.mirror:
            return {"logits": self.answer(numbers)}
        turned = numbers.flip(3)
        if self.training:
            tails = torch.rand(len(numbers), 1, 1, 1, device=numbers.device) < 0.5
            return {"logits": self.answer(torch.where(tails, turned, numbers))}
        if torch.compiler.is_exporting():  # in one go, so that a file holds every weight once
            both = self.answer(torch.cat([numbers, turned]))
            return {"logits": both.view(2, -1, both.shape[1]).mean(0)}
        other = self.answer(turned)  # first: whoever reads inner states means the picture's own
        return {"logits": (self.answer(numbers) + other) / 2}


class PooledFeatures(PictureModule):
    """Features of a picture, their mean over it, logits.

    Args:
        pixels: makes numbers of pictures.
        features: numbers (B, channels, H, W) to states (B, width, H', W').
        width: channels of the states.
        outputs: C.
        dropout: share of the pooled numbers that training hides.
        mirror: as `PictureModule` says.
    """

    def __init__(
        self, pixels: Pixels, features: nn.Module, width: int, outputs: int, *, dropout: float, mirror: bool
    ) -> None:
        super().__init__(pixels, mirror=mirror)
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def answer(self, numbers: Tensor) -> Tensor:
        """Numbers (B, channels, H, W) to logits (B, C)."""
        pooled = self.features(numbers).mean((2, 3))
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def convolution(into: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (over its stride), batch normalisation, ReLU."""
    filters = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(filters.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(filters, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


@dataclass(frozen=True)
class PictureReader:
    """Settings of every model that reads pictures.

    Args:
        size: height and width read, pixels; by default the most frequent of training pictures (of 256 drawn among
            them), its longer side at most 224.
        channels: 3 for colour, 1 for grey; by default 1 where all of these are grey.
        resize: how a picture of another shape is made to fit: `stretch`, `crop` or `pad`.
        mean, deviation: what is taken from a channel's values in [0, 1], and what they are divided by; one for
            all channels, or one each.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    resize: Resize = "stretch"
    mean: tuple[float, ...] = (0.5,)
    deviation: tuple[float, ...] = (0.25,)

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"size is {list(self.size)}; height and width must be at least 1")
        if self.channels not in (None, 1, 3):
            raise UserError(f"channels is {self.channels}; it must be 1 (grey) or 3 (colour)")
        if not self.mean or not self.deviation or min(self.deviation) <= 0:
            raise UserError(f"mean is {list(self.mean)}, deviation {list(self.deviation)}; deviations must be above 0")

    def encoder(self, problem: Problem) -> Encoder:
        """The pictures' pixels."""
        column = problem.train.role("picture")
        size, channels = self.size, self.channels
        if size is None or channels is None:
            some = problem.train.take(problem.train.drawn(LOOKED_AT))
            shapes = [shape(data) for data in some.column(column)]
            size = size or _most_frequent((height, width) for height, width, _ in shapes)
            channels = channels or max(channels for _, _, channels in shapes)
        for name, numbers in (("mean", self.mean), ("deviation", self.deviation)):
            if len(numbers) not in (1, channels):
                raise UserError(f"{name} has {len(numbers)} numbers for pictures of {channels} channels")
        return Encoder([Picture(column, size=size, channels=channels, resize=self.resize)])

    def pixels(self) -> Pixels:
        """What makes numbers of pixels."""
        return Pixels(self.mean, self.deviation)


@dataclass(frozen=True)
class PictureNetwork(PictureReader):
    """Settings of the networks among them.

    Args:
        dropout: share of the last hidden numbers hidden in training.
        mirror: a picture and its mirror image mean the same: training sees either, at random, and an answer is the
            mean of both, for twice the time.
    """

    dropout: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}; it must be at least 0 and below 1")

    def pooled(self, features: nn.Module, width: int, outputs: int) -> PooledFeatures:
        """Features with a head, laid out for convolutions."""
        made = PooledFeatures(self.pixels(), features, width, outputs, dropout=self.dropout, mirror=self.mirror)
        return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs know tensors only


def picture_of(encoder: Encoder) -> Picture:
    """The encoding of the pictures."""
    picture: Any = encoder.encodings[0]
    assert isinstance(picture, Picture), "a picture reader's encoder has pictures"
    return picture


def _most_frequent(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    (height, width), _ = Counter(sizes).most_common(1)[0]
    scale = min(1.0, LARGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
