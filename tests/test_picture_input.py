"""Pictures as an input of someone else's network takes them."""

import io

import numpy as np
import pytest
from PIL import Image

from limbeck.errors import UserError
from limbeck.picture_input import PictureInput

PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def png(picture=PICTURE):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("last", [False, True])
def test_channels_go_where_the_shape_has_them(last) -> None:
    shape = (None, 4, 6, 3) if last else (None, 3, 4, 6)
    found = PictureInput(raw=True)([png()], "uint8", shape, "here")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], PICTURE if last else PICTURE.transpose(2, 0, 1))


def test_values_are_scaled_and_normalised() -> None:
    found = PictureInput(mean=(0.5,), deviation=(0.1, 0.2, 0.4))([png()], "float16", (None, 4, 6, 3), "here")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found[0], (PICTURE / 255 - 0.5) / [0.1, 0.2, 0.4], atol=5e-3)


def test_a_grey_input_gets_grey_pictures() -> None:
    found = PictureInput(size=(2, 3), raw=True)([png()], "float32", (None, 1, None, None), "here")
    assert found.shape == (1, 1, 2, 3)


@pytest.mark.parametrize(
    ("settings", "column", "dtype", "shape", "said"),
    [
        ({}, [png()], "float32", (None, 5), "pictures fill"),
        ({}, [png()], "float32", (None, 2, 4, 6), "pictures fill"),
        ({}, [png()], "uint8", (None, 4, 6, 3), "raw: true"),
        ({}, [png()], "float32", (None, None, 6, 3), "leaves the size"),
        ({"size": (2, 2)}, [png()], "float32", (None, 4, 6, 3), "takes pictures of 4 x 6"),
        ({"mean": (0.1, 0.2)}, [png()], "float32", (None, 4, 6, 3), "picture.mean has 2 numbers for 3 channels"),
        ({}, [png(), b"no"], "float32", (None, 4, 6, 3), "row 2 of 2 cannot be read: it is no picture"),
        ({}, [None], "float32", (None, 4, 6, 3), "row 1 of 1 cannot be read: it is empty"),
    ],
)
def test_what_does_not_fit_is_refused(settings, column, dtype, shape, said) -> None:
    with pytest.raises(UserError, match=said):
        PictureInput(**settings)(column, dtype, shape, "here")


@pytest.mark.parametrize("settings", [{"deviation": (0.0,)}, {"mean": ()}, {"size": (0, 4)}])
def test_impossible_settings_are_refused(settings) -> None:
    with pytest.raises(UserError, match="picture"):
        PictureInput(**settings)
