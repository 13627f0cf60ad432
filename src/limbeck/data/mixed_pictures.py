"""New pictures without labels, each of two training pictures: blended (mixup), or pasted into the other (CutMix)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from limbeck.errors import UserError
from limbeck.made_pictures import kept_pictures, opened, seeded
from limbeck.picture import png
from limbeck.types import Array, Rows, fingerprint

VERSION = 1


@dataclass(frozen=True)
class MixedPictures:
    """Pictures for a teacher to label: what a mixture shows, only it can say.

    The second picture is scaled to the first one's size; a mixture is grey where both are.

    Args:
        count: how many pictures to make, each of two training pictures drawn at random.
        seed: equal seeds make equal pictures; more of them begin with the same ones.
        way: `mixup`, `cutmix`, or `both`, each for half of them.
        alpha: of the Beta(alpha, alpha) that the first picture's share is drawn from; 1 draws all shares alike.

    Source: Zhang et al. 2018 (mixup); Yun et al. 2019 (CutMix). Their labels are mixed as pictures are; here the
    teacher is asked, as Beyer et al. 2022 do.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    count: int
    seed: int = 0
    way: Literal["mixup", "cutmix", "both"] = "both"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.alpha < float("inf") or self.way not in ("mixup", "cutmix", "both"):
            raise UserError(
                f"mixed_pictures: count is {self.count}, alpha {self.alpha} and way '{self.way}'; at least 1, above 0, "
                "and mixup, cutmix or both were wanted"
            )

    def make(self, rows: Rows) -> Rows:
        """Rows with the same columns and roles, of which only the picture is filled.

        Args:
            rows: training rows, with the role `picture`; two at least.

        Raises:
            BadPicture: a picture that cannot be read.
        """
        if len(rows) < 2:
            raise UserError("mixed_pictures: two pictures at least are wanted to mix")
        name = rows.role("picture")
        originals = rows.table.column(name)
        # Not of how many: a longer list begins as a shorter one does, but lies in another file.
        source = fingerprint("mixed pictures", VERSION, rows=rows.fingerprint, settings=asdict(self))

        def made(place: int) -> bytes:
            draw = np.random.Generator(np.random.PCG64(seeded(self.seed, place)))
            first, second = draw.choice(len(rows), 2, replace=False).tolist()
            way = ("mixup", "cutmix")[place % 2] if self.way == "both" else self.way
            pair = opened(originals[first].as_py()), opened(originals[second].as_py())
            return png(mixed(*pair, way, float(draw.beta(self.alpha, self.alpha)), draw))

        pictures = kept_pictures(source, self.count, made)
        columns = {field.name: pa.nulls(self.count, field.type) for field in rows.table.schema}
        columns[name] = pictures.cast(rows.table.schema.field(name).type)
        return Rows(pa.table(columns), np.arange(self.count, dtype=np.int64), source, rows.roles)


def mixed(first: Array, second: Array, way: str, share: float, draw: np.random.Generator) -> Array:
    """Two pictures as one.

    Args:
        first: uint8 (H, W, channels), of 1 or 3 channels.
        second: the same, of any size.
        way: `mixup` or `cutmix`.
        share: of the first picture, in [0, 1].
        draw: where the second one is pasted.

    Returns:
        uint8, of the first one's height and width.
    """
    height, width, _ = first.shape
    channels = max(first.shape[2], second.shape[2])
    first, second = (
        np.broadcast_to(one, (*one.shape[:2], channels)) for one in (first, _scaled(second, width, height))
    )
    if way == "mixup":
        blend = share * first.astype(np.float64) + (1 - share) * second
        return np.rint(blend).astype(np.uint8)
    side = np.sqrt(1 - share)
    y, x = int(draw.integers(height)), int(draw.integers(width))
    top, bottom = (int(np.clip(y + sign * height * side / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(x + sign * width * side / 2, 0, width)) for sign in (-1, 1))
    pasted = first.copy()
    pasted[top:bottom, left:right] = second[top:bottom, left:right]
    return pasted


def _scaled(pixels: Array, width: int, height: int) -> Array:
    if pixels.shape[:2] == (height, width):
        return pixels
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.uint8)
    return scaled.reshape(height, width, pixels.shape[2])
