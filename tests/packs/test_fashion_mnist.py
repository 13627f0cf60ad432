import io
import shutil

import numpy as np
import pytest
from PIL import Image

from limbeck.errors import UserError
from limbeck.fetch import find_pack, open_pack
from limbeck.packs.fashion_mnist import CLASSES, idx


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_pack("fashion-mnist").here or shutil.which("apt-get")), reason="a Debian package, and no apt-get here"
)
def test_it_holds_six_and_one_thousand_pictures_of_every_kind():
    rows = open_pack("fashion-mnist").rows
    split, label = np.array(rows.column("split")), np.array(rows.column("label"))
    for part, each in (("train", 6000), ("test", 1000)):
        assert dict(zip(*np.unique(label[split == part], return_counts=True), strict=True)) == dict.fromkeys(
            CLASSES, each
        )
    first = Image.open(io.BytesIO(rows.table.column("picture")[0].as_py()))
    assert first.size == (28, 28)
    assert first.mode == "L"
    # The first training picture is the well-known ankle boot, whose grey values sum to this.
    assert int(np.asarray(first, np.int64).sum()) == 76247


@pytest.mark.parametrize("data", [b"", bytes([0, 0, 9, 1, 0, 0, 0, 1, 5]), bytes([0, 0, 8, 1, 0, 0, 0, 2, 5])])
def test_a_file_of_another_kind_or_length_is_refused(data):
    with pytest.raises(UserError, match="not whole"):
        idx(data)


def test_idx_keeps_the_order_of_axes():
    data = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (2, 3, 4)) + bytes(range(24))
    np.testing.assert_array_equal(idx(data), np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
