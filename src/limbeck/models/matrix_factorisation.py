"""Matrix factorisation: a vector a user, a vector an item; new users are folded in from their history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from limbeck.encoder import RESERVED, Encoder
from limbeck.encoders.history import History
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.errors import UserError
from limbeck.head import Scores
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


class Factors(nn.Module):
    """Scores U V^T + b.

    A user who was not there in training gets the vector that a linear map makes of the vectors of the
    items in the history (their mean, and their sum over the root of their number: how sure a history
    makes a user's vector lies between the two); the map is fitted after training, on the training users.

    Args:
        users, items: sizes of the embedding tables, reserved ids included.
        width: D.
        spread: standard deviation of the fresh vectors.
        dropout: share of the numbers of a user's vector dropped while training.
    """

    fold: Tensor

    def __init__(self, users: int, items: int, *, width: int, spread: float, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.user = nn.Embedding(users, width)
        self.item = nn.Embedding(items, width)
        self.bias = nn.Parameter(torch.zeros(items - RESERVED))
        self.head = Scores()
        self.register_buffer("fold", torch.zeros(2 * width + 1, width))
        nn.init.normal_(self.user.weight, std=spread)
        nn.init.normal_(self.item.weight, std=spread)

    def forward(self, user: Tensor, history: Tensor) -> dict[str, Tensor]:
        """User ids (B,) and histories of ids (B, L) to scores (B, N)."""
        known = (user >= RESERVED).unsqueeze(1)
        # Training never sees an unknown user, and the gather over histories would dominate its step.
        if self.training:
            vector = self.drop(self.user(user))
        else:
            vector = torch.where(known, self.user(user), self.folded(history))
        return {"scores": self.head(vector, self.item.weight[RESERVED:], self.bias)}

    def folded(self, history: Tensor) -> Tensor:
        """Vectors (B, D) of users known by their histories (B, L) only."""
        return self.summary(history) @ self.fold

    def summary(self, history: Tensor) -> Tensor:
        """Mean and root-scaled sum of a history's item vectors, and a 1: (B, 2 D + 1)."""
        there = (history >= RESERVED).to(self.item.weight.dtype).unsqueeze(2)
        count = there.sum(1).clamp(min=1.0)
        total = (self.item(history) * there).sum(1)
        return torch.cat([total / count, total / count.sqrt(), torch.ones_like(count)], 1)


@dataclass(frozen=True)
class MatrixFactorisation:
    """A dot product of user and item vectors with an item bias.

    Args:
        width: D, numbers a vector.
        spread: standard deviation of fresh vectors.
        dropout: share of the numbers of a user's vector dropped while training.
        fold_l2: ridge penalty of the map that folds new users in, relative to its inputs' mean square.

    Source: Koren, Bell, Volinsky 2009; the fold-in map is ours, a ridge regression.
    """

    width: int = 16
    spread: float = 0.1
    dropout: float = 0.0
    fold_l2: float = 3e-3

    kinds: ClassVar[Mapping[str, Kind]] = {"scores": "scores"}

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width is {self.width}; a vector needs at least 1 number")

    def encoder(self, problem: Problem) -> Encoder:
        """Users and catalogue of the training rows."""
        users = Vocabulary.fit("user", problem.train.column("user"))
        return Encoder([users, History("history", problem.axis.values, length=len(problem.axis))])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fresh vectors."""
        shape = {"users": len(encoder["user"]), "items": outputs + RESERVED, "width": self.width}
        return Factors(**shape, spread=self.spread, dropout=self.dropout)

    def finish(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        """Fit the fold-in map on the training users."""
        assert isinstance(module, Factors)
        with torch.no_grad():
            summary = module.summary(inputs["history"]).double()
            vectors = module.user(inputs["user"]).double()
            gram = summary.T @ summary
            ridge = self.fold_l2 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.double)
            module.fold.copy_(torch.linalg.solve(gram + ridge, summary.T @ vectors).float())
