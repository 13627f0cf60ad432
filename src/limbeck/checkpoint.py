"""Training state on disk: a folder with a manifest, renamed last; the newest that verifies is used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from limbeck import atomic

SCHEMA = 3
KEPT = 2
PACE = 20.0
"""How many times longer than a save the time between two is, at least: a large network takes seconds to write."""


@dataclass
class Pace:
    """When a checkpoint is due.

    Args:
        every: seconds between two; 0 whenever one may be made.
        last: the moment of the last one, on the monotonic clock.
        cost: seconds that it took.
    """

    every: float
    last: float = 0.0
    cost: float = 0.0

    def due(self, now: float) -> bool:
        """Whether it is time."""
        return not self.every or now - self.last >= max(self.every, PACE * self.cost)


def copied(value: Any) -> Any:
    """Nested dicts and lists with every tensor cloned, without gradient, so that later steps do not write into them."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list | tuple) else value


def save(folder: Path, state: dict[str, Any]) -> None:
    """Commit a state and drop all but the newest two.

    Args:
        folder: where checkpoints of one training live.
        state: nested dicts and lists of tensors and JSON values; keys are text or numbers. A tensor
            that stands in several places is written once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_take_out(state, "", tensors, {}), allow_nan=True).encode()
    data = save_tensors(tensors)
    for left in folder.glob(".tmp.*"):  # of a process that was killed: only one at a time trains here
        shutil.rmtree(left, ignore_errors=True)
    place = folder / f".tmp.{os.getpid()}"
    place.mkdir()
    files = {
        "state.safetensors": data,
        "state.json": skeleton,
        "manifest.json": json.dumps(_manifest(data, skeleton)).encode(),
    }
    for name, content in files.items():
        atomic.replace(place / name, content)
    # Counted by saves: a training that went back to an earlier step has gone on all the same.
    atomic.rename(place, folder / f"{max(_numbers(folder), default=0) + 1:012d}")
    for old in _numbers(folder)[:-KEPT]:
        shutil.rmtree(folder / f"{old:012d}", ignore_errors=True)


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest state that verifies, or none."""
    for number in reversed(_numbers(folder)):
        state = _read(folder / f"{number:012d}")
        if state is not None:
            return state
    return None


def _numbers(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit()) if folder.is_dir() else []


def _read(place: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((place / "manifest.json").read_bytes())
        data = (place / "state.safetensors").read_bytes()
        skeleton = (place / "state.json").read_bytes()
    except (OSError, ValueError):
        return None
    if manifest != _manifest(data, skeleton):
        return None
    state: dict[str, Any] = _put_back(json.loads(skeleton), load_tensors(data))
    return state


def _manifest(data: bytes, skeleton: bytes) -> dict[str, Any]:
    tensors, state = (hashlib.sha256(part).hexdigest() for part in (data, skeleton))
    return {"schema": SCHEMA, "tensors": tensors, "state": state}


def _take_out(value: Any, path: str, tensors: dict[str, Tensor], taken: dict[int, str]) -> Any:
    if isinstance(value, Tensor):
        if id(value) not in taken:
            taken[id(value)] = path
            tensors[path] = value.detach().cpu().contiguous().clone()
        return {"$tensor": taken[id(value)]}
    if isinstance(value, dict):
        pairs = [[key, _take_out(inner, f"{path}/{key}", tensors, taken)] for key, inner in value.items()]
        return {"$pairs": pairs}
    if isinstance(value, list | tuple):
        return [_take_out(inner, f"{path}/{i}", tensors, taken) for i, inner in enumerate(value)]
    return value


def _put_back(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        return {key: _put_back(inner, tensors) for key, inner in value["$pairs"]}
    if isinstance(value, list):
        return [_put_back(inner, tensors) for inner in value]
    return value


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    """Put `random_state` back."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
