"""Whether what is about to be kept in memory fits there, asked before the work and told with the numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from limbeck.errors import UserError, counted
from limbeck.types import Array

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
COPIES = 2
"""Of tensors of many rows while they are put together of pieces."""


def memory_left() -> int | None:
    """Bytes of memory that a process may still take, by the machine and by its container; none where nobody says."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        found.append(1024 * int(line.split()[1]))
    with suppress(OSError, ValueError):
        limit, held = ((CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        found.append(max(0, int(limit) - int(held)))
    if not found and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def check_room(tensors: Mapping[str, Array], rows: int) -> None:
    """Refuse to encode so many rows where they would not fit into memory.

    Args:
        tensors: of some of the rows, first axis the row.
        rows: how many there are in all.

    Raises:
        UserError: says how much is needed, and how much there is.
    """
    weight = {name: tensor.nbytes / max(1, len(tensor)) for name, tensor in tensors.items()}
    needed, left = COPIES * rows * sum(weight.values()), memory_left()
    if left is None or needed <= left:
        return
    largest = max(weight, key=lambda name: weight[name])
    raise UserError(
        f"{counted(rows, 'row')} of {weight[largest]:,.0f} bytes each ('{largest}', encoded) need "
        f"{needed / 1e9:.2g} GB of memory while they are put together, and {left / 1e9:.2g} GB are left; take fewer "
        "rows, or a model that reads less of each, as by a smaller `size` of pictures"
    )
