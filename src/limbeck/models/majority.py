"""Majority: every row gets the classes' shares among training rows; the least a classifier must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.presence import Presence
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


class Shares(nn.Module):
    """The same logits for every row.

    Args:
        outputs: C.
    """

    log_share: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("log_share", torch.zeros(outputs))

    def forward(self, present: Tensor) -> dict[str, Tensor]:
        """Ones (B,) to logits (B, C)."""
        return {"logits": present.unsqueeze(1) * self.log_share}


@dataclass(frozen=True)
class Majority:
    """Logarithms of the classes' shares, one row of each class added so that none is 0."""

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def encoder(self, problem: Problem) -> Encoder:
        """That the row is there."""
        return Encoder([Presence(problem.reads[0])])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Equal shares."""
        return Shares(outputs)

    def fit(
        self,
        module: nn.Module,
        inputs: Mapping[str, Array],
        target: Any,
        weight: Array | None,
    ) -> None:
        """Count the rows (or sum their weights) of every class."""
        counts = np.asarray(target.sum(axis=0) if weight is None else weight @ target, np.float64).ravel() + 1.0
        module.load_state_dict({"log_share": torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32))})
