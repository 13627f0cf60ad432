"""Encoded pictures to pixels of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from limbeck.errors import UserError
from limbeck.picture import BadPicture, BadRow, Resize, pixels
from limbeck.types import Array, fingerprint


class Picture:
    """Pixels of a column of encoded pictures. What they are scaled to for a network is the network's own affair.

    Args:
        column: its name; the tensor is `picture`.
        size: height and width, pixels.
        channels: 3 for colour (RGB), 1 for grey.
        resize: `stretch`, `crop` or `pad`, where a picture has another shape.
        config: of a pretrained network that reads these pixels, so that it can be built again without its folder.
    """

    kind = "picture"

    def __init__(
        self,
        column: str,
        *,
        size: tuple[int, int],
        channels: int,
        resize: Resize = "stretch",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if min(size) < 1 or channels not in (1, 3) or resize not in get_args(Resize):
            raise UserError(
                f"size is {list(size)}, channels {channels} and resize '{resize}'; pixels from 1 up, 1 or 3 channels, "
                f"and one of {', '.join(get_args(Resize))} were wanted"
            )
        self.column = column
        self.size = size
        self.channels = channels
        self.resize = resize
        self.config = config

    def __call__(self, column: Sequence[bytes | None]) -> dict[str, Array]:
        """`picture`, uint8 (B, channels, height, width).

        Raises:
            BadRow: a picture cannot be read; which one, and why.
        """
        made = np.empty((len(column), self.channels, *self.size), np.uint8)
        for at, data in enumerate(column):
            try:
                made[at] = pixels(data, self.size, self.channels, self.resize)
            except BadPicture as wrong:
                raise BadRow(at, len(column), str(wrong)) from None
        return {"picture": made}

    def _said(self) -> dict[str, Any]:
        said = {"column": self.column, "size": list(self.size), "channels": self.channels, "resize": self.resize}
        return said if self.config is None else {**said, "config": dict(self.config)}

    @property
    def fingerprint(self) -> str:
        """Of the column, the size, the fit and the network's settings."""
        return fingerprint("picture", 2, **self._said())

    def save(self, folder: Path) -> dict[str, Any]:
        """No file."""
        return self._said()

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Picture:
        """Read what `save` returned."""
        height, width = settings["size"]
        resize = cast(Resize, settings["resize"])
        how = {"channels": settings["channels"], "config": settings.get("config")}
        return cls(settings["column"], size=(height, width), resize=resize, **how)
