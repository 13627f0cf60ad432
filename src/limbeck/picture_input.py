"""Pictures as networks made elsewhere take them: their size, their layout, their normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from limbeck.errors import UserError
from limbeck.picture import BadPicture, Resize, pixels
from limbeck.types import Array

COLOURS = (1, 3)


@dataclass(frozen=True)
class PictureInput:
    """How encoded pictures fill an input of four axes; where its channels are, and how many, its shape says.

    Args:
        size: height and width, pixels, where the input leaves them open.
        resize: how a picture of another shape is made to fit: `stretch`, `crop` or `pad`.
        mean, deviation: what is taken from a channel's values in [0, 1], and what they are divided by; one for
            all channels, or one each.
        raw: values from 0 to 255 as they are, for networks that scale by themselves.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    size: tuple[int, int] | None = None
    resize: Resize = "stretch"
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    raw: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"picture.size is {list(self.size)}; height and width must be at least 1")
        if not self.mean or not self.deviation or min(self.deviation) <= 0:
            raise UserError(
                f"picture.mean is {list(self.mean)}, deviation {list(self.deviation)}; deviations must be above 0"
            )

    def __call__(self, column: Sequence[bytes | None], dtype: str, shape: Sequence[int | None], where: str) -> Array:
        """Pictures as numbers of a type: (B, channels, H, W), or (B, H, W, channels) where the shape has them last.

        Args:
            column: encoded pictures.
            dtype: NumPy's name.
            shape: the input's, rows first; none where any length will do.
            where: the column and the input, for messages.

        Raises:
            UserError: the input takes no pictures, no size is known, or a picture cannot be read.
        """
        last = self._last(shape, where)
        channels = int(shape[3 if last else 1] or 0)
        height, width = self._size(shape[1:3] if last else shape[2:4], where)
        made = np.empty((len(column), channels, height, width), np.uint8)
        for at, data in enumerate(column):
            try:
                made[at] = pixels(data, (height, width), channels, self.resize)
            except BadPicture as wrong:
                raise UserError(
                    f"{where}: the picture in row {at + 1} of {len(column)} cannot be read: {wrong}"
                ) from None
        numbers = self._scaled(made, dtype, where)
        return np.ascontiguousarray(numbers.transpose(0, 2, 3, 1)) if last else numbers

    def _scaled(self, made: Array, dtype: str, where: str) -> Array:
        if np.dtype(dtype).kind != "f" and not self.raw:
            raise UserError(f"{where}: it takes {dtype}; give `picture: {{raw: true}}` for values from 0 to 255")
        if self.raw:
            return made.astype(dtype)
        for name, numbers in (("mean", self.mean), ("deviation", self.deviation)):
            if len(numbers) not in (1, made.shape[1]):
                raise UserError(f"{where}: picture.{name} has {len(numbers)} numbers for {made.shape[1]} channels")
        mean, deviation = (np.array(some, np.float32).reshape(-1, 1, 1) for some in (self.mean, self.deviation))
        scaled: Array = ((made.astype(np.float32) / 255 - mean) / deviation).astype(dtype)
        return scaled

    @staticmethod
    def _last(shape: Sequence[int | None], where: str) -> bool:
        """Whether the channels are the last axis."""
        if len(shape) != 4 or not {shape[1], shape[3]} & set(COLOURS):
            said = "x".join("?" if n is None else str(n) for n in shape)
            raise UserError(f"{where}: pictures fill ?x3xHxW, ?xHxWx3, or the same with 1 channel; this takes {said}")
        return shape[3] in COLOURS

    def _size(self, said: Sequence[int | None], where: str) -> tuple[int, int]:
        known = [own or wanted for own, wanted in zip(said, self.size or (None, None), strict=True)]
        if None in known:
            raise UserError(f"{where}: it leaves the size of pictures open; give `picture: {{size: [height, width]}}`")
        if self.size is not None and tuple(known) != self.size:
            raise UserError(f"{where}: it takes pictures of {known[0]} x {known[1]}, picture.size is {list(self.size)}")
        return int(known[0] or 0), int(known[1] or 0)
