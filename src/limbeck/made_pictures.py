"""Rows whose pictures are made of other rows' pictures: made once, and kept in the cache as their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from limbeck.cache import cache_folder
from limbeck.picture import read, shape
from limbeck.table import map_table, write_table
from limbeck.types import Array

CHUNK = 256
"""Pictures made at a time, so that more of them than memory holds can be made."""


def kept_pictures(source: str, count: int, made: Callable[[int], bytes]) -> pa.ChunkedArray:
    """Encoded pictures, found in the cache or made.

    Args:
        source: fingerprint of everything that decides them.
        count: how many.
        made: place -> the picture of that place.

    Returns:
        `large_binary`, (count,), memory-mapped.
    """
    kept = cache_folder("rows") / f"{source}.arrow"
    if not kept.exists():
        schema = pa.schema([("picture", pa.large_binary())])

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, count, CHUNK):
                some = [made(place) for place in range(start, min(start + CHUNK, count))]
                yield pa.record_batch([pa.array(some, pa.large_binary())], schema)

        write_table(kept, schema, batches(), said="what is made of pictures")
    return map_table(kept).column("picture")


def opened(data: bytes | None) -> Array:
    """A picture as uint8 (H, W, channels), of 1 channel where it is stored grey, else 3.

    Raises:
        BadPicture: it cannot be read.
    """
    channels = shape(data)[2]
    picture = read(data, channels)
    return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, channels)


def seeded(*numbers: int) -> int:
    """A seed of 64 bits, by numbers of which any may be negative.

    >>> seeded(0, 7, 1) == seeded(0, 7, 1), seeded(0, 7, 1) == seeded(0, 7, 2)
    (True, False)
    """
    state: Any = np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1, np.uint64)
    return int(state[0])
