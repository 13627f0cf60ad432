import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from limbeck.picture import BadPicture, blank, look, pixels, read, shape, thumbnail


def encoded(picture: Image.Image, form: str = "png", **more: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **more)  # type: ignore[arg-type]  # whatever Pillow's writer takes
    return file.getvalue()


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)


COLOUR = noise(6, 9, 3)


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_pixels_are_those_of_the_picture_and_channels_come_first() -> None:
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(COLOUR)), (6, 9), 3), COLOUR.transpose(2, 0, 1))
    grey = noise(4, 5)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(grey)), (4, 5), 1)[0], grey)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(grey)), (4, 5), 3), np.stack([grey] * 3))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (None, "empty"),
        (b"hello, this is text", "no picture"),
        (encoded(Image.fromarray(noise(40, 40)))[:-200], "not whole"),
        (encoded(Image.fromarray(noise(40, 40)), "jpeg")[:-300], "not whole"),
        (claiming(9_000, 9_000), "9000 x 9000"),
        (claiming(30_000, 30_000), "too many pixels"),
    ],
    ids=["empty", "null", "text", "truncated PNG", "truncated JPEG", "large", "bomb"],
)
def test_a_bad_picture_is_refused_with_its_reason(data: bytes | None, reason: str) -> None:
    with pytest.raises(BadPicture, match=reason):
        read(data, 3)


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    for form in ("png", "tiff"):
        np.testing.assert_array_equal(pixels(encoded(Image.fromarray(deep), form), (1, 3), 1)[0], [[0, 100, 255]])


def test_thirty_two_bits_are_scaled_by_their_maximum_where_sixteen_would_not_hold_them() -> None:
    def found(*numbers: int) -> list[int]:
        tiff = encoded(Image.fromarray(np.array([numbers], np.int32)), "tiff")
        return list(pixels(tiff, (1, len(numbers)), 1)[0, 0].tolist())

    assert found(0, 257 * 100, 65535) == [0, 100, 255]
    assert found(0, 257, 25700) == [0, 1, 100]
    assert found(0, 1_000_000, 2_000_000, 4_000_000, -5) == [0, 64, 128, 255, 0]


def test_cmyk_palettes_and_animations_are_read() -> None:
    plain = Image.fromarray(COLOUR)
    ink = pixels(encoded(plain.convert("CMYK"), "tiff"), (6, 9), 3)
    np.testing.assert_allclose(ink, COLOUR.transpose(2, 0, 1), atol=2)
    few = plain.quantize(8)
    np.testing.assert_array_equal(pixels(encoded(few), (6, 9), 3), np.asarray(few.convert("RGB")).transpose(2, 0, 1))
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(moving, (4, 4), 3)[:, 0, 0], [255, 0, 0])


def test_what_is_transparent_is_white() -> None:
    glass = np.zeros((2, 2, 4), np.uint8)
    glass[0, 0] = (10, 20, 30, 255)
    found = pixels(encoded(Image.fromarray(glass)), (2, 2), 3)
    assert found[:, 0, 0].tolist() == [10, 20, 30]
    assert found[:, 1, 1].tolist() == [255, 255, 255]


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by a quarter, clockwise
    data = encoded(Image.fromarray(COLOUR), exif=exif)
    np.testing.assert_array_equal(pixels(data, (9, 6), 3), np.rot90(COLOUR, -1).transpose(2, 0, 1))
    assert shape(data) == (9, 6, 3)


def test_a_wrong_ending_does_not_matter_and_grey_is_told_from_colour() -> None:
    assert shape(encoded(Image.fromarray(noise(3, 5)), "bmp")) == (3, 5, 1)
    assert shape(encoded(Image.fromarray(COLOUR), "webp", lossless=True)) == (6, 9, 3)


def test_three_ways_to_fit() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    data = encoded(Image.fromarray(wide))
    assert (pixels(data, (4, 4), 3, "crop") == 200).all()
    padded = pixels(data, (8, 8), 3, "pad")
    assert (padded[:, 0] == 255).all()
    assert (padded[:, 4, 3:5] == 200).all()
    stretched = pixels(data, (4, 4), 3, "stretch")
    assert stretched[:, :, 0].max() < 60
    assert stretched[:, :, 1].min() > 130


def test_the_same_pixels_in_another_format_are_the_same_picture() -> None:
    plain, other = Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)
    digests, bad = look([encoded(plain), encoded(plain, "bmp"), encoded(other), b"no", encoded(plain.resize((9, 7)))])
    assert digests[0] == digests[1]
    assert len({digests[0], digests[2], digests[4]}) == 3
    assert digests[3] == ""
    assert list(bad) == [3]


def test_a_thumbnail_opens_from_a_page_and_is_small() -> None:
    said = thumbnail(encoded(Image.fromarray(noise(400, 300, 3))))
    assert said.startswith("data:image/png;base64,")
    assert len(said) < 60_000


def test_the_least_picture_is_one_white_pixel() -> None:
    np.testing.assert_array_equal(pixels(blank(), (1, 1), 1), [[[255]]])
