"""Pictures made worse as cameras, networks and shops' tools do: noise, blur, low contrast, glare, JPEG."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from scipy.ndimage import gaussian_filter

from limbeck.errors import UserError
from limbeck.picture import png, read, shape
from limbeck.types import Array

SMALL = 64
"""Pictures whose shorter side is less get the milder strengths."""
STRENGTHS = {
    "noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
"""Corruption -> strengths of severities 1 to 5, for small pictures and others: CIFAR-10-C and ImageNet-C."""


def corrupt(data: bytes, corruption: str, severity: int, *, seed: int) -> bytes:
    """A picture made worse.

    Args:
        data: an encoded picture.
        corruption: `noise` (normal, on every value), `blur` (Gaussian), `contrast` (lowered towards each channel's
            mean), `brightness` (raised) or `jpeg`.
        severity: 1 to 5.
        seed: of the noise; equal seeds make equal noise.

    Returns:
        The same picture as PNG, or as JPEG for `jpeg`; grey where it was grey.

    Raises:
        BadPicture: it cannot be read.
        UserError: no such corruption or severity.

    Source: Hendrycks & Dietterich 2019, with the constants of their code.
    """
    if corruption not in STRENGTHS or not 1 <= severity <= 5:
        known = ", ".join(STRENGTHS)
        raise UserError(f"corruption is '{corruption}' at severity {severity}; one of {known}, at 1 to 5, was wanted")
    channels = shape(data)[2]
    picture = read(data, channels)
    strength = STRENGTHS[corruption][min(picture.size) >= SMALL][severity - 1]
    if corruption == "jpeg":
        file = BytesIO()
        picture.save(file, "jpeg", quality=int(strength))
        return file.getvalue()
    values = np.asarray(picture, np.float64).reshape(picture.height, picture.width, channels) / 255
    worse = np.clip(_worse(values, corruption, strength, seed), 0, 1)
    return png(np.rint(worse * 255).astype(np.uint8))


def _worse(values: Array, corruption: str, strength: float, seed: int) -> Array:
    """(H, W, C) in [0, 1] to the same, which may lie outside."""
    if corruption == "noise":
        return values + np.random.Generator(np.random.PCG64(seed)).normal(0, strength, values.shape)
    if corruption == "blur":
        return np.asarray(gaussian_filter(values, (strength, strength, 0), mode="nearest"))
    if corruption == "contrast":
        mean = values.mean((0, 1), keepdims=True)
        return np.asarray((values - mean) * strength + mean)
    # The value of HSV is raised; hue and saturation stay, so all channels grow by the same factor.
    value = values.max(2, keepdims=True)
    raised = np.minimum(value + strength, 1)
    return np.where(value > 0, values * (raised / np.where(value > 0, value, 1)), raised)
