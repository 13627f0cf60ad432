"""EASE: a linear item-to-item model with a closed form; strong, and quick to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from limbeck.encoder import RESERVED, Encoder
from limbeck.encoders.history import History
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


class ItemToItem(nn.Module):
    """Scores are the sum of the columns of a square matrix that the history names.

    Args:
        items: length of the catalogue.
    """

    weight: Tensor

    def __init__(self, items: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(items, items))

    def forward(self, history: Tensor) -> dict[str, Tensor]:
        """History (B, L) of ids to scores (B, N)."""
        items = self.weight.shape[0]
        seen = torch.zeros(history.shape[0], items + RESERVED, dtype=self.weight.dtype, device=history.device)
        seen = seen.scatter(1, history, 1.0)[:, RESERVED:]
        return {"scores": seen @ self.weight}


@dataclass(frozen=True)
class Ease:
    """The minimiser of ||X - XB||^2 + l2 ||B||^2 with a zero diagonal.

    Args:
        l2: strength of the penalty, > 0; a few hundred for tens of thousands of interactions.

    Source: Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", equations 5 to 8.
    """

    l2: float = 500.0

    kinds: ClassVar[Mapping[str, Kind]] = {"scores": "scores"}

    def encoder(self, problem: Problem) -> Encoder:
        """The whole history, over the catalogue."""
        return Encoder([History("history", problem.axis.values, length=len(problem.axis))])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """An empty item-to-item matrix."""
        return ItemToItem(outputs)

    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Solve for the matrix that makes the targets (N, items) of the multi-hot histories.

        Where the targets are the histories themselves this is the paper's solution; soft targets keep
        its penalty and its zero diagonal.
        """
        history = inputs["history"]
        rows = np.repeat(np.arange(len(history)), history.shape[1])
        there = history.ravel() >= RESERVED
        shape = (len(history), target.shape[1])
        seen = sparse.csr_matrix((np.ones(there.sum()), (rows[there], history.ravel()[there] - RESERVED)), shape)
        seen.data[:] = 1.0  # an item had twice is one item
        weighted = seen if weight is None else sparse.diags(weight) @ seen
        gram = np.asarray((weighted.T @ seen).todense())
        gram[np.diag_indices_from(gram)] += self.l2
        inverse = np.linalg.inv(gram)
        wanted = weighted.T @ sparse.csr_matrix(target, dtype=np.float64)
        free = inverse @ np.asarray(wanted.todense())
        # Lagrange's multipliers of the zero diagonal, one a column.
        solution = free - inverse * (np.diag(free) / np.diag(inverse))
        np.fill_diagonal(solution, 0.0)
        module.load_state_dict({"weight": torch.from_numpy(solution.astype(np.float32))})
