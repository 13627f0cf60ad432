"""Weights that somebody pickled, written once as safetensors; nothing but tensors is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from limbeck.errors import UserError

SAFETENSORS = "model.safetensors"


def rewriting(member: str) -> Callable[[Path, Path], None]:
    """For a pack whose bytes are pinned: (unpacked, new folder) -> writes the state dict in `member` as safetensors.

    Args:
        member: the file of the state dict, by its name in the unpacked folder.
    """

    def rewrite(folder: Path, made: Path) -> None:
        import torch
        from safetensors.torch import save_file

        state = torch.load(folder / member, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise UserError(f"{member} holds no state dict: tensors by name were wanted; it was not read")
        made.mkdir(parents=True)
        save_file({name: value.contiguous() for name, value in state.items()}, made / SAFETENSORS, {"format": "pt"})

    return rewrite
