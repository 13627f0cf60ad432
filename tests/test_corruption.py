import colorsys
import io

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from limbeck.corruption import STRENGTHS, corrupt
from limbeck.errors import UserError
from limbeck.picture import BadPicture
from limbeck.types import Array

DRAW = np.random.default_rng(0)
COLOUR = DRAW.integers(0, 256, (20, 24, 3), dtype=np.uint8)
GREY = DRAW.integers(40, 200, (30, 30), dtype=np.uint8)
LARGE = DRAW.integers(100, 150, (80, 64), dtype=np.uint8)


def png(pixels: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def opened(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_brightness_raises_the_value_of_each_pixels_hue_and_saturation() -> None:
    found = opened(corrupt(png(COLOUR), "brightness", 3, seed=0))
    for y, x in [(0, 0), (5, 7), (19, 23), (11, 2)]:
        hue, saturation, value = colorsys.rgb_to_hsv(*(COLOUR[y, x] / 255))
        wanted = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.15, 1))
        assert np.abs(found[y, x] - np.array(wanted) * 255).max() <= 0.51
    black = opened(corrupt(png(np.zeros((4, 4), np.uint8)), "brightness", 5, seed=0))
    assert (black == round(0.3 * 255)).all()


def test_contrast_moves_values_to_their_channels_mean() -> None:
    found = opened(corrupt(png(COLOUR), "contrast", 4, seed=0))
    mean = COLOUR.mean((0, 1))
    assert np.abs(found - ((COLOUR - mean) * 0.3 + mean)).max() <= 0.51


def test_blur_is_a_convolution_with_a_normal_density() -> None:
    point = np.zeros((21, 21), np.uint8)
    point[10, 10] = 255
    found = opened(corrupt(png(point), "blur", 5, seed=0))
    density = stats.norm.pdf(np.arange(-4, 5), scale=1.0)
    density /= density.sum()
    assert np.abs(found[6:15, 6:15] - 255 * np.outer(density, density)).max() <= 0.51


def test_noise_has_its_deviation_and_hangs_on_the_seed() -> None:
    plain = np.full((60, 60), 128, np.uint8)
    one, same, other = (opened(corrupt(png(plain), "noise", 5, seed=seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert np.std(one / 255) == pytest.approx(0.10, rel=0.05)


def test_jpeg_is_saved_at_the_quality() -> None:
    wanted = io.BytesIO()
    Image.fromarray(COLOUR).save(wanted, "jpeg", quality=58)
    assert (opened(corrupt(png(COLOUR), "jpeg", 3, seed=0)) == opened(wanted.getvalue())).all()


def test_large_pictures_get_stronger_noise_than_small_ones() -> None:
    small, large = (np.std(opened(corrupt(png(p), "noise", 1, seed=0)) - p.astype(float)) for p in (GREY, LARGE))
    assert small == pytest.approx(0.04 * 255, rel=0.1)
    assert large == pytest.approx(0.08 * 255, rel=0.1)


@pytest.mark.parametrize("corruption", STRENGTHS)
def test_size_and_channels_stay_and_more_severe_is_further_away(corruption: str) -> None:
    for pixels in (COLOUR, GREY):
        kept = [opened(corrupt(png(pixels), corruption, severity, seed=0)) for severity in range(1, 6)]
        assert all(one.shape == pixels.shape for one in kept)
        away = [np.abs(one.astype(float) - pixels).mean() for one in kept]
        assert away == sorted(away)
        assert away[0] > 0


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(UserError, match=r"'fog' at severity 1; one of noise, blur, contrast, brightness, jpeg"):
        corrupt(png(GREY), "fog", 1, seed=0)
    with pytest.raises(UserError, match="severity 6"):
        corrupt(png(GREY), "noise", 6, seed=0)
    with pytest.raises(BadPicture, match="no picture"):
        corrupt(b"text", "noise", 1, seed=0)
