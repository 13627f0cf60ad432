"""EfficientNet-lite, trained on ImageNet, with a fresh head: a backbone to fine-tune."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.pickled import SAFETENSORS
from limbeck.picture_reader import PictureNetwork
from limbeck.pretrained import NOT_HERE, bring_folder, content_of, folder_here

if TYPE_CHECKING:
    from limbeck.task import Problem

STAGES = (
    # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Table 1 of the paper; the lite networks have ReLU6 for Swish, and no squeeze-and-excitation."""
STEM, TOP = 32, 1280
SCALES = {"lite0": (1.0, 1.0, 224), "lite2": (1.1, 1.2, 260)}
"""Of width and of depth, and the pixels a side they were trained at."""
EPSILON = 1e-3
TRAINED_MEAN, TRAINED_DEVIATION = 127 / 255, 128 / 255
"""What TensorFlow's networks were trained with. The page of the package that carries them names ImageNet's mean and
deviation instead; with these, the first convolution's variances over photographs are six times those that its batch
normalisation remembers, with ours they are alike."""
HEAD_RATE = 10.0
"""How much faster the fresh head learns than the body."""


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's `same`: where it strides, more on the right and below."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, groups: int) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(into, out, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, into, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] > 1:
            height, width = (self._lacking(side) for side in states.shape[2:])
            states = F.pad(states, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(states)

    def _lacking(self, side: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)


def unit(into: int, out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True) -> nn.Module:
    """A convolution, batch normalisation, and ReLU6 where it is active."""
    layers = [SameConv2d(into, out, kernel, stride, groups), nn.BatchNorm2d(out, eps=EPSILON)]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if active else []))


class Block(nn.Module):
    """An inverted residual: wider by a pointwise convolution, then depthwise, then narrow again.

    Args:
        into, out: channels.
        kernel, stride: of the depthwise convolution.
        expansion: how much wider; 1 leaves the first convolution out.
    """

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        self.expand = unit(into, wide) if expansion > 1 else None
        self.depthwise = unit(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = unit(wide, out, active=False)
        self.around = (into, stride) == (out, 1)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, into, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        wide = states if self.expand is None else self.expand(states)
        changed: Tensor = self.project(self.depthwise(wide))
        return changed + states if self.around else changed


def features(width: float, depth: float) -> nn.Sequential:
    """Stem, seven stages and the last convolution; the lite networks scale neither end."""
    parts: list[nn.Module] = [unit(3, STEM, kernel=3, stride=2)]
    into = STEM
    for number, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES):
        out = rounded(channels * width)
        repeats = blocks if number in (0, len(STAGES) - 1) else math.ceil(blocks * depth)
        stage: list[nn.Module] = [Block(into, out, kernel, stride, expansion)]
        stage += [Block(out, out, kernel, 1, expansion) for _ in range(repeats - 1)]
        parts.append(nn.Sequential(*stage))
        into = out
    return nn.Sequential(*parts, unit(into, TOP))


def rounded(channels: float, by: int = 8) -> int:
    """To the nearest multiple of 8, but not by more than a tenth downwards.

    >>> rounded(26.4), rounded(17.6)
    (24, 16)
    """
    near = max(by, int(channels + by / 2) // by * by)
    return near + by if near < 0.9 * channels else near


def names(body: nn.Sequential) -> Iterator[tuple[str, str]]:
    """Our layers that have weights, and what the package calls them."""
    yield from (("0.0", "_conv_stem"), ("0.1", "_bn0"))
    number = 0
    for place, stage in enumerate(list(body)[1:-1], 1):
        assert isinstance(stage, nn.Sequential), "as `features` makes it"
        for at, block in enumerate(stage):
            for part, convolution, norm in (
                ("expand", "_expand_conv", "_bn0"),
                ("depthwise", "_depthwise_conv", "_bn1"),
                ("project", "_project_conv", "_bn2"),
            ):
                if getattr(block, part) is not None:
                    yield f"{place}.{at}.{part}.0", f"_blocks.{number}.{convolution}"
                    yield f"{place}.{at}.{part}.1", f"_blocks.{number}.{norm}"
            number += 1
    yield from ((f"{len(body) - 1}.0", "_conv_head"), (f"{len(body) - 1}.1", "_bn1"))


def renamed(body: nn.Sequential, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's state dict under our names, without ImageNet's head."""
    ours = {theirs: mine for mine, theirs in names(body)}
    split = {name: name.rsplit(".", 1) for name in state}
    return {f"{ours[layer]}.{what}": state[name] for name, (layer, what) in split.items() if layer in ours}


@dataclass(frozen=True)
class EfficientnetLite(PictureNetwork):
    """An EfficientNet-lite with ImageNet's weights and a fresh head.

    Grey pictures are read as colour. A frozen part keeps its statistics too.

    Args:
        variant: `lite0` (3.4 million weights below the head) or `lite2` (4.8 million); each from the pack of its name.
        size: height and width read; by default what it was trained at, 224 or 260. Smaller is faster, by the square.
        frozen: how many of its nine parts (stem, seven stages, last convolution) stay as they came, from the first;
            9 leaves only the head to learn, 0 lets everything learn.

    Source: Tan and Le 2019 (EfficientNet), as Google's lite networks of 2020 changed it.
    """

    variant: Literal["lite0", "lite2"] = "lite0"
    channels: int | None = 3
    mean: tuple[float, ...] = (TRAINED_MEAN,)
    deviation: tuple[float, ...] = (TRAINED_DEVIATION,)
    frozen: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in SCALES:
            raise UserError(f"variant is '{self.variant}'; there are: {', '.join(SCALES)}")
        if self.channels != 3:
            raise UserError(f"channels is {self.channels}; the network reads colour, 3; grey pictures are read so too")
        if not 0 <= self.frozen <= len(STAGES) + 2:
            raise UserError(f"frozen is {self.frozen}; the network has {len(STAGES) + 2} parts")

    @property
    def source(self) -> str:
        """Where its weights are."""
        return f"pack:efficientnet-{self.variant}"

    def content(self) -> str:
        """Of the weights it starts from."""
        return content_of(bring_folder(self.source))

    def encoder(self, problem: Problem) -> Encoder:
        """The pictures' pixels in colour, at the size it was trained at unless another is named."""
        side = SCALES[self.variant][2]
        return super(EfficientnetLite, replace(self, size=self.size or (side, side))).encoder(problem)

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """ImageNet's body and a fresh head; a fresh body, with a warning, where the pack is not on this machine."""
        width, depth, _ = SCALES[self.variant]
        body = features(width, depth)
        folder = folder_here(self.source)
        if folder is None:
            warnings.warn(NOT_HERE.format(self.source), stacklevel=2)
        else:
            body.load_state_dict(renamed(body, load_file(folder / SAFETENSORS)))
        made = self.pooled(body, TOP, outputs)
        made.rates = {"head": HEAD_RATE}
        made.hold(list(body)[: self.frozen])
        return made
