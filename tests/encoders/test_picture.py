import io

import numpy as np
import pytest
from PIL import Image

from limbeck.encoder import Encoder
from limbeck.encoders.picture import Picture
from limbeck.errors import UserError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (5, 4), value).save(file, "png")
    return file.getvalue()


def test_it_makes_bytes_of_one_size_and_is_the_same_when_loaded(tmp_path) -> None:
    encoding = Picture("photo", size=(4, 5), channels=3, resize="pad")
    made = encoding([png(7), png(200)])["picture"]
    assert made.dtype == np.uint8
    assert made.shape == (2, 3, 4, 5)
    assert made[0].max() == 7
    assert made[1].min() == 200
    Encoder([encoding]).save(tmp_path)
    again = Encoder.load(tmp_path)
    assert again.fingerprint == Encoder([encoding]).fingerprint
    assert again.fingerprint != Encoder([Picture("photo", size=(4, 5), channels=3)]).fingerprint


def test_a_picture_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UserError, match="row 2 of 3 cannot be read: it is no picture"):
        Picture("photo", size=(4, 5), channels=1)([png(1), b"not one", png(2)])


@pytest.mark.parametrize("wrong", [{"size": (0, 5)}, {"channels": 2}, {"resize": "squeeze"}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(UserError, match="were wanted"):
        Picture("photo", **{"size": (4, 5), "channels": 3, **wrong})
