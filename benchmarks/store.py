"""How fast a store gathers random rows, beside plain NumPy over one memory-mapped file.

`numpy` is `plain[rows]`, `take` is `plain.take(rows, axis=0)`, `store` the gather by key: all three copy the
stored numbers as they are. With `f32` both decode to float32 too (for bfloat16, NumPy merely converts). The ratio is
numpy / store; the bar is 0.5.
Run: python benchmarks/store.py [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bar import show

from limbeck.store import Knowledge, Settings, Store, chunks
from limbeck.types import Key, Signals

BATCH, ROUNDS, SHARDS = 4096, 40, 50
CASES = [
    (200_000, 1000, "float16"),
    (1_000_000, 64, "float16"),
    (1_000_000, 64, "bfloat16"),
    (200_000, 1000, "float32"),
]


def fill(folder: Path, ids: np.ndarray, width: int, dtype: str) -> tuple[Store, np.ndarray, float]:
    settings = Settings("teacher", "source", {"logits": "logits"}, Knowledge(dtype=dtype))
    store = Store.create(folder / "store", settings, origin={})
    rng = np.random.default_rng(0)
    key = Key("source", ids, np.zeros(len(ids), np.int64))
    plain = np.lib.format.open_memmap(
        folder / "plain.npy", "w+", np.uint16 if dtype == "bfloat16" else dtype, (len(ids), width)
    )
    seconds = 0.0
    for chunk in chunks(key, size=-(-len(ids) // SHARDS)):
        values = rng.standard_normal((len(chunk), width), np.float32)
        if dtype == "bfloat16":  # numbers it holds exactly, so that both files hold the same
            values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        start = time.perf_counter()
        store.write(chunk, Signals({"logits": values}, {"logits": "logits"}))
        seconds += time.perf_counter() - start
        plain[chunk.positions] = values.view(np.uint32) >> 16 if dtype == "bfloat16" else values
    store.finish()
    plain.flush()
    return store, np.load(folder / "plain.npy", mmap_mode="r"), seconds


def medians(works: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """Milliseconds of this thread, taken in turns, so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS):
        for name, work in works.items():
            start = time.thread_time()
            work(turn)
            times[name].append((time.thread_time() - start) * 1e3)
    return {name: float(np.median(t)) for name, t in times.items()}


def measure(folder: Path, rows: int, width: int, dtype: str, order: str) -> dict[str, object]:
    rng = np.random.default_rng(1)
    # As a split leaves them: every third id lies in another part; or one after the other.
    ids = np.flatnonzero(rng.random(rows * 3 // 2 + 1000) < 2 / 3)[:rows] if order == "split" else np.arange(rows)
    written, plain, seconds = fill(folder, ids, width, dtype)
    start = time.perf_counter()
    store = Store.open(written.folder)
    store.gather(ids[:1])
    opened = time.perf_counter() - start
    start = time.perf_counter()
    store.gather(ids[:: max(1, rows // 1000)])  # touches every shard, so checks every checksum
    checked = time.perf_counter() - start
    places = [rng.integers(0, rows, BATCH) for _ in range(ROUNDS)]
    queries = [ids[p] for p in places]
    np.testing.assert_array_equal(store.gather(queries[0], decode=False)["logits"], plain[places[0]])
    times = medians(
        {
            "numpy_ms": lambda turn: plain[places[turn]],
            "take_ms": lambda turn: plain.take(places[turn], axis=0),
            "store_ms": lambda turn: store.gather(queries[turn], decode=False),
            "numpy_f32_ms": lambda turn: plain[places[turn]].astype(np.float32),
            "store_f32_ms": lambda turn: store.gather(queries[turn]),
        }
    )
    return {
        "rows": rows,
        "width": width,
        "dtype": dtype,
        "ids": order,
        **times,
        "ratio": times["numpy_ms"] / times["store_ms"],
        "write_mb_s": rows * width * plain.itemsize / 1e6 / seconds,
        "open_ms": opened * 1e3,
        "first_touch_ms": checked * 1e3,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to put up to 1.7 GB for a while")
    arguments = parser.parse_args()
    found = []
    for rows, width, dtype in CASES:
        for order in ("consecutive", "split"):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                found.append(measure(Path(folder), rows, width, dtype, order))
    columns = list(found[0])
    print("  ".join(f"{name:>14}" for name in columns))
    for one in found:
        print("  ".join(f"{v:>14.3g}" if isinstance(v, float) else f"{v!s:>14}" for v in one.values()))
    print(json.dumps({"benchmark": "store", "batch": BATCH, "shards": SHARDS, "cases": found}))
    names = [f"gathers {one['rows']} x {one['width']} {one['dtype']} {one['ids']}" for one in found]
    return show([(name, float(str(one["ratio"])), ">=", 0.5) for name, one in zip(names, found, strict=True)])


if __name__ == "__main__":
    sys.exit(main())
