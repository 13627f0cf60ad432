"""Popularity: every user gets what most users had; the least a recommender must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.history import History
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


class Constant(nn.Module):
    """The same scores for every row.

    Args:
        outputs: length of the axis.
    """

    score: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("score", torch.zeros(outputs))

    def forward(self, history: Tensor) -> dict[str, Tensor]:
        """History (B, L) of ids, of which only B counts, to scores (B, N)."""
        return {"scores": self.score.expand(history.shape[0], -1)}


@dataclass(frozen=True)
class Popularity:
    """Items by the number of training rows that have them."""

    kinds: ClassVar[Mapping[str, Kind]] = {"scores": "scores"}

    def encoder(self, problem: Problem) -> Encoder:
        """One item of history, to know how many rows there are."""
        return Encoder([History("history", problem.axis.values, length=1)])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Scores of zero."""
        return Constant(outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Count the rows (or sum their weights) of every item."""
        counts = target.sum(axis=0) if weight is None else weight @ target
        module.load_state_dict({"score": torch.from_numpy(np.asarray(counts, np.float32).ravel())})
