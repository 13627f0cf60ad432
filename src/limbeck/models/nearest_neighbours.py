"""Nearest neighbours: a row is answered by the training rows that are most like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.brought import CLIP
from limbeck.encoder import Encoder
from limbeck.estimator import Asked, Estimator, floats, names_of
from limbeck.setting import above_zero, one_or_more
from limbeck.trees import Grown
from limbeck.types import Array

TIE = 1e-5
"""Squared distances this close, relative to the rows' own lengths, are equal: what sums in float32 are off by, with
room."""


class Neighbours(Grown):
    """The mean shares of the nearest kept rows, as logits; all that are as near as the last count.

    Args:
        features: D.
        outputs: C.
        neighbours: K.
        smoothing: rows of the mean of all that are counted with the neighbours.
    """

    kept: Tensor
    shares: Tensor
    weight: Tensor
    seen: Tensor

    def __init__(self, features: int, outputs: int, neighbours: int, smoothing: float) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(1, features))
        self.register_buffer("shares", torch.full((1, outputs), 1 / outputs))
        self.register_buffer("weight", torch.ones(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.neighbours = neighbours
        self.smoothing = smoothing

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        lengths = (features * features).sum(1, keepdim=True)
        own = (self.kept * self.kept).sum(1)
        far = lengths + own - 2 * features @ self.kept.T
        last = far.topk(min(self.neighbours, len(self.kept)), 1, largest=False).values[:, -1:]
        near = (far <= last + TIE * (1 + lengths)).float() * self.weight
        prior = self.weight @ self.shares / self.weight.sum()
        said = (near @ self.shares + self.smoothing * prior) / (near.sum(1, keepdim=True) + self.smoothing)
        return {"logits": torch.log(said.clamp(min=CLIP))}


@dataclass(frozen=True)
class NearestNeighbours(Estimator):
    """The K nearest training rows by Euclidean distance of standardised numbers and categories of 0 or 1.

    Soft labels reach it as they are: neighbours say the mean of their soft targets.

    Args:
        neighbours: K; those as near as the K-th count as well.
        rows: training rows kept at most, drawn at random; `kept.txt` beside the artifact says of how many.
        smoothing: rows of all rows' mean that are counted with the neighbours, above 0, so that no answer is exactly 0
            or 1.
    """

    neighbours: int = 50
    rows: int = 5000
    smoothing: float = 1.0

    def __post_init__(self) -> None:
        one_or_more("neighbours", self.neighbours)
        one_or_more("rows", self.rows)
        above_zero("smoothing", self.smoothing)

    def module(self, encoder: Encoder, outputs: int) -> Neighbours:
        """Nobody kept."""
        return Neighbours(len(names_of(encoder)), outputs, self.neighbours, self.smoothing)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Keep rows, their soft targets and weights."""
        asked = Asked.of(inputs, target, weight)
        drawn = asked.drawn(self.rows)
        state = {"kept": floats(drawn.features), "shares": floats(drawn.shares), "weight": floats(drawn.weight)}
        module.load_state_dict({**state, "seen": torch.tensor(len(asked.features))})

    def told(self, module: Neighbours, encoder: Encoder, labels: Sequence[str]) -> dict[str, str]:
        """How many rows it keeps."""
        return {"kept.txt": f"{len(module.kept)} of {int(module.seen)} training rows are kept (`rows`: {self.rows}).\n"}
