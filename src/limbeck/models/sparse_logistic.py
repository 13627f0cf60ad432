"""Logistic regression with a weight for every value of every column, descended."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from limbeck.column_reader import Descended, Linear, columns_of
from limbeck.encoder import Encoder


@dataclass(frozen=True)
class SparseLogistic(Descended):
    """One weight for every value of every column and every number: the smallest model that knows users and items.

    Weight decay of the training presses the weights to 0.
    """

    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Weights of 0."""
        return Linear(columns_of(encoder), outputs)
