"""Fashion-MNIST: Zalando's product pictures, grey and small."""

from __future__ import annotations

import gzip
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from limbeck.errors import UserError
from limbeck.fetch import Pack
from limbeck.types import Array

INSIDE = "usr/share/datasets/fashion-mnist/"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PINNED = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
UNSIGNED_BYTES = 8


def idx(data: bytes) -> Array:
    """An array of unsigned bytes from the IDX format: two zeros, the type, the rank, the sizes, the numbers.

    Raises:
        UserError: it is something else.

    >>> idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]))
    array([5, 7], dtype=uint8)
    """
    rank = data[3] if len(data) > 4 else 0
    shape = tuple(np.frombuffer(data, ">u4", rank, 4).tolist()) if len(data) >= 4 + 4 * rank else ()
    if data[:3] != bytes([0, 0, UNSIGNED_BYTES]) or len(data) != 4 + 4 * rank + int(np.prod(shape)):
        raise UserError("the file is no IDX file of unsigned bytes, or not whole")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def table(folder: Path) -> pa.Table:
    """Pictures as PNG, with label (the product's kind) and the split their publisher made."""
    pieces = []
    for files, split in (("train", "train"), ("t10k", "test")):
        pictures, labels = (
            idx(gzip.decompress((folder / INSIDE / f"{files}-{what}-ubyte.gz").read_bytes()))
            for what in ("images-idx3", "labels-idx1")
        )
        named = {
            "picture": pa.array([_png(picture) for picture in pictures], pa.binary()),
            "label": pa.array([CLASSES[label] for label in labels]),
            "split": pa.array([split] * len(labels)),
        }
        pieces.append(pa.table(named))
    return pa.concat_tables(pieces)


def _png(picture: Array) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=1)
    return file.getvalue()


PACK = Pack(
    name="fashion-mnist",
    package="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    file="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    megabytes=30.9,
    licence="MIT (Zalando SE)",
    note="60,000 + 10,000 pictures of products, 28 by 28 and grey, of ten kinds; a Debian package, through apt-get",
    members=tuple(INSIDE + file for file in PINNED),
    pins={INSIDE + file: pinned for file, pinned in PINNED.items()},
    table=table,
    roles={"picture": "picture", "label": "label", "split": "split"},
)
