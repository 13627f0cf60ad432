"""Encoded pictures to pixels: whatever a shop's folders hold, read alike, or refused with the reason."""

from __future__ import annotations

import hashlib
import warnings
from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Literal, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from limbeck.errors import UserError
from limbeck.types import Array

Resize = Literal["stretch", "crop", "pad"]
MOST_PIXELS = 64_000_000
"""A larger picture is refused unread: a few kilobytes can claim to be gigabytes."""
WHITE, SIXTEEN = 255, 65535
THUMB = 96
GREY = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "F")
DEEP = ("I", "I;16", "I;16L", "I;16B", "F")


class BadPicture(UserError):
    """A picture that cannot be read; the message is the reason alone."""


class BadRow(UserError):
    """One of several pictures cannot be read.

    Args:
        at: its position among them.
        count: of them.
        why: the reason alone.
    """

    def __init__(self, at: int, count: int, why: str) -> None:
        super().__init__(f"the picture in row {at + 1} of {count} cannot be read: {why}")
        self.at, self.why = at, why


def read(data: bytes | None, channels: int) -> Image.Image:
    """The first frame, upright (its EXIF orientation carried out), 8 bits a channel, on white where it is transparent.

    Args:
        data: an encoded picture: PNG, JPEG, WebP, GIF, BMP, TIFF, ...
        channels: 3 for colour (RGB), 1 for grey.

    Raises:
        BadPicture: it is empty, no picture, not whole, or claims more than `MOST_PIXELS` pixels.

    A picture of 16 bits a channel is scaled by 1/257 to 8, one of 32 by its own maximum where that is more than 16
    bits hold (and numbers below 0 are 0), one in floating point by its own range.
    """
    if not data:
        raise BadPicture("it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are looked at here, and of odd EXIF
            picture: Image.Image = Image.open(BytesIO(data))
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise BadPicture(f"it claims {width} x {height} pixels; {MOST_PIXELS:,} at most are read")
            picture = ImageOps.exif_transpose(picture)
            if picture.mode in DEEP:
                picture = _shallow(picture)
            if picture.has_transparency_data:
                alpha = picture.convert("RGBA")
                picture = Image.new("RGBA", alpha.size, (WHITE, WHITE, WHITE, WHITE))
                picture.alpha_composite(alpha)
            return picture.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError:
        raise BadPicture("it is no picture of a known format") from None
    except Image.DecompressionBombError as wrong:
        raise BadPicture(f"it claims too many pixels: {wrong}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as wrong:  # what Pillow's readers raise over broken files
        raise BadPicture(f"it is not whole: {wrong}") from None


def shape(data: bytes | None) -> tuple[int, int, int]:
    """Height and width of a picture once upright, and its channels: 1 where it is stored grey, else 3.

    Raises:
        BadPicture: as `read` says.
    """
    width, height = read(data, 1).size
    with Image.open(BytesIO(data or b"")) as picture:
        return height, width, 1 if picture.mode in GREY else 3


def _shallow(picture: Image.Image) -> Image.Image:
    """More than 8 bits a channel to 8."""
    deep = np.asarray(picture, np.float64)
    if picture.mode == "F":
        low, high = float(deep.min()), float(deep.max())
        deep = (deep - low) * (WHITE / (high - low)) if high > low else deep * 0
    else:
        deep = deep * (WHITE / max(float(deep.max()), SIXTEEN))
    return Image.fromarray(np.clip(np.rint(deep), 0, WHITE).astype(np.uint8))


def pixels(data: bytes | None, size: tuple[int, int], channels: int, resize: Resize = "stretch") -> Array:
    """A picture's pixels.

    Args:
        data: an encoded picture.
        size: height and width wanted, pixels.
        channels: 1 or 3.
        resize: `stretch` to the size, `crop` the middle after scaling the shorter side, or `pad` with white
            after scaling the longer one.

    Returns:
        uint8 (channels, height, width).
    """
    picture, (height, width) = read(data, channels), size
    if picture.size != (width, height):
        if resize == "stretch":
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        elif resize == "crop":
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
        else:
            white = WHITE if channels == 1 else (WHITE,) * 3
            picture = ImageOps.pad(picture, (width, height), Image.Resampling.BILINEAR, color=cast(int, white))
    plain = np.asarray(picture, np.uint8)
    return plain[None] if channels == 1 else np.ascontiguousarray(plain.transpose(2, 0, 1))


def thumbnail(data: bytes) -> str:
    """A picture as a data address of PNG, its longer side at most 96 pixels: for a page that opens from disk."""
    picture = read(data, 3)
    picture.thumbnail((THUMB, THUMB))
    file = BytesIO()
    picture.save(file, "png", optimize=True)
    return "data:image/png;base64," + b64encode(file.getvalue()).decode("ascii")


def png(pixels: Array) -> bytes:
    """Pixels as an encoded picture.

    Args:
        pixels: uint8 (H, W, channels), of 1 or 3 channels.
    """
    file = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "png")
    return file.getvalue()


def blank() -> bytes:
    """The least picture there is: one white pixel, as PNG."""
    file = BytesIO()
    Image.new("L", (1, 1), WHITE).save(file, "png")
    return file.getvalue()


def look(column: Sequence[bytes | None]) -> tuple[list[str], dict[int, str]]:
    """Read every picture once.

    Returns:
        What tells pictures apart, one text a row: a digest of size and pixels, so that the same picture in
        another format is the same; empty where it cannot be read. And position -> why it cannot.
    """
    digests, bad = [], {}
    for at, data in enumerate(column):
        try:
            picture = read(data, 3)
        except BadPicture as wrong:
            bad[at] = str(wrong)
            digests.append("")
            continue
        digest = hashlib.blake2b(f"{picture.size}".encode(), digest_size=16)
        digest.update(picture.tobytes())
        digests.append(digest.hexdigest())
    return digests, bad
