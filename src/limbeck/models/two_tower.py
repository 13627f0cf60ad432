"""Two towers: one vector for who asks, one for what is offered, and their product; either can be computed ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limbeck.column_reader import DeepEmbedder, FieldVectors, Hidden, columns_of
from limbeck.encoder import Encoder
from limbeck.errors import UserError, few

if TYPE_CHECKING:
    from limbeck.task import Problem


class Towers(nn.Module):
    """The product of two vectors, each with an entry that only the other's bias meets.

    Args:
        vectors: of the columns.
        sides: which of the vectors the two towers read.
        towers: hidden layers over them, to vectors of one width.
        dropout: share of the columns' vectors' numbers hidden in training.
    """

    def __init__(
        self, vectors: FieldVectors, sides: Sequence[Sequence[int]], towers: Sequence[Hidden], *, dropout: float
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.sides = tuple(tuple(side) for side in sides)
        self.towers = nn.ModuleList(towers)
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to margins (B, 1)."""
        vectors = self.dropout(self.vectors(ids, weights, numbers))
        user, item = (
            tower(torch.flatten(vectors[:, list(side)], 1)) for tower, side in zip(self.towers, self.sides, strict=True)
        )
        # The first number of each is a bias of its own: popular things, and people who like everything.
        margin = (user[:, 1:] * item[:, 1:]).sum(1) + user[:, 0] + item[:, 0]
        said: Tensor = (margin + self.bias).unsqueeze(1)
        return said


@dataclass(frozen=True)
class TwoTower(DeepEmbedder):
    """A dot product of two deep vectors, for two classes.

    Args:
        item: the columns of what is offered; all others are of who it is offered to.
        depth: numbers of the towers' vectors.

    Source: Covington et al. 2016; Yi et al. 2019.
    """

    item: tuple[str, ...] = ()
    depth: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 1:
            raise UserError(f"depth is {self.depth}; a tower's vector needs at least 1 number")

    def encoder(self, problem: Problem) -> Encoder:
        """The columns as ids and numbers.

        Raises:
            UserError: a tower has no column, or the task other than two classes.
        """
        encoder = super().encoder(problem)
        own = columns_of(encoder).columns
        if not self.item or not set(self.item) < set(own):
            raise UserError(
                f"two_tower: no column has the role of what is offered: 'item' names {few(list(self.item)) or 'none'}; "
                f"some of the columns that are read were wanted, and not all: {few(list(own))}"
            )
        if len(problem.axis) != 2:
            raise UserError(f"two_tower tells two classes apart, and there are {len(problem.axis)}")
        return encoder

    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh weights."""
        vectors = self.vectors(encoder)
        item = [n for n, column in enumerate(vectors.columns) if column in self.item]
        user = [n for n in range(len(vectors.columns)) if n not in item]
        towers = [
            Hidden((len(side) * self.width, *self.hidden), 1 + self.depth, dropout=self.dropout)
            for side in (user, item)
        ]
        return Towers(vectors, (user, item), towers, dropout=self.dropout)
