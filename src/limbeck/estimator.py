"""What families fitted by libraries share: a table's design matrix, soft targets as shares of classes, and modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from limbeck.brought import CLIP
from limbeck.column_reader import ColumnReader
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.trees import Trees, rules
from limbeck.types import Array

if TYPE_CHECKING:
    from limbeck.task import Problem

TOLERANCE = 1e-3
"""How far shares may be below 0 or add to more than 1; and what a row counts for that might as well not be there."""


@dataclass(frozen=True)
class Estimator(ColumnReader, ABC):
    """Settings of every fitted model of a table.

    Args:
        one_hot: values of a category at most that have a column of their own.
    """

    one_hot: int = 64

    standard: ClassVar[bool] = True
    """Whether numbers are standardised; trees read them in their own units."""

    def encoder(self, problem: Problem) -> Encoder:
        """The columns as a design matrix."""
        return Encoder([self.columns(problem).flattened(one_hot=self.one_hot, standard=self.standard)])

    @abstractmethod
    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Fitted to nothing yet: features (B, D) to logits (B, outputs)."""

    @abstractmethod
    def fit(self, module: nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Set the module's numbers; the arguments are those of `model.Fitted.fit`."""


@dataclass(frozen=True)
class Asked:
    """What an estimator is fitted to.

    Args:
        features: float32 (N, D).
        shares: of the classes, float64 (N, C), each row adding to 1: labels one-hot, or a teacher's probabilities.
        weight: float64 (N,), above 0.
    """

    features: Array
    shares: Array
    weight: Array

    @staticmethod
    def of(inputs: Mapping[str, Array], target: Any, weight: Array | None) -> Asked:
        """A target that adds to less than 1, as where some of the losses have nothing to say of a row, counts for that
        much less; rows without one are left out.

        Raises:
            UserError: no row has a target, or the target is no distribution over classes.
        """
        shares = np.asarray(sparse.coo_array(target).toarray(), np.float64)
        total = shares.sum(1)
        if shares.min() < -TOLERANCE or total.max() > 1 + TOLERANCE:
            raise UserError(
                "a fitted model of a table learns probabilities of classes, and these targets are none; take a loss "
                "such as kl, which offers the teacher's distribution (squared_error offers its logits)"
            )
        counted = total if weight is None else total * weight
        kept = counted > TOLERANCE * counted.max()
        if not kept.any():
            raise UserError("no row has a target; an estimator is fitted on labels or on a teacher's soft targets")
        shares = np.clip(shares[kept], 0.0, None)
        return Asked(inputs["features"][kept], shares / shares.sum(1, keepdims=True), counted[kept])

    @property
    def prior(self) -> Array:
        """The classes' shares over all rows, (C,)."""
        return np.asarray(np.average(self.shares, axis=0, weights=self.weight))

    def take(self, rows: Array) -> Asked:
        """Some of the rows."""
        return Asked(self.features[rows], self.shares[rows], self.weight[rows])

    def drawn(self, most: int) -> Asked:
        """So many rows at most, drawn by torch's own seed."""
        if len(self.features) <= most:
            return self
        return self.take(np.sort(np.random.default_rng(seed()).choice(len(self.features), most, replace=False)))

    def labelled(self) -> tuple[Array, Array, Array]:
        """For learners that take only labels: every row once for each class, weighted by the class' share.

        A loss that adds up over rows is then the cross-entropy (or whatever it is) of the soft target itself.

        Returns:
            Row, class and weight of each of M pairs.
        """
        row, label = np.nonzero(self.shares)
        return row, label, self.shares[row, label] * self.weight[row]

    def margins(self, clip: float) -> Array:
        """For regressors: log-odds of two classes (N, 1), log shares of more less their mean (N, C).

        Args:
            clip: shares are drawn into [clip, 1 - clip] first; labels have no finite log-odds without.
        """
        logs = np.log(np.clip(self.shares, clip, 1 - clip))
        if logs.shape[1] == 2:
            return np.asarray(logs[:, 1:] - logs[:, :1])
        return np.asarray(logs - logs.mean(1, keepdims=True))


def seed() -> int:
    """The next seed for a library's own random numbers; it follows from the seed of the run."""
    return int(torch.randint(2**31 - 1, ()).item())


def both(of_margins: Array) -> Array:
    """What belongs to margins (1 or C, ...) as what belongs to logits (C, ...): of one margin, a half each way."""
    return np.concatenate([-of_margins / 2, of_margins / 2]) if len(of_margins) == 1 else of_margins


def names_of(encoder: Encoder) -> tuple[str, ...]:
    """What the columns of the design matrix are called."""
    names: tuple[str, ...] = encoder.encodings[0].names  # type: ignore[attr-defined]  # an Estimator's is a Columns
    return names


class LinearFeatures(nn.Module):
    """Logits that are linear in the features.

    Args:
        features: D.
        outputs: C.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def take(self, weight: Array, bias: Array) -> None:
        """Take these coefficients, (C, D) and (C,)."""
        self.head.load_state_dict({"weight": floats(weight), "bias": floats(bias)})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        return {"logits": self.head(features)}

    def told(self, encoder: Encoder, labels: Sequence[str]) -> dict[str, str]:
        """`coefficients.csv`: a line a feature, the largest first; of two classes the margin of the second."""
        weight, bias = self.head.weight.detach().double().numpy(), self.head.bias.detach().double().numpy()
        if len(labels) == 2:
            weight, bias, labels = weight[1:] - weight[:1], bias[1:] - bias[:1], labels[1:]
        names = names_of(encoder)
        lines = [_csv(["feature", *labels]), _csv(["(intercept)", *(f"{b:.6g}" for b in bias)])]
        order = np.argsort(-np.abs(weight).max(0), kind="stable").tolist()
        lines += [_csv([names[place], *(f"{w:.6g}" for w in weight[:, place])]) for place in order]
        return {"coefficients.csv": "\n".join(lines) + "\n"}


class TreeShares(nn.Module):
    """Logits that are logarithms of shares which trees say; shares below `CLIP` count as `CLIP`.

    Args:
        outputs: C.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trees = Trees(outputs)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features (B, D) to logits (B, C)."""
        return {"logits": torch.log(self.trees(features).clamp(min=CLIP))}

    def told(self, encoder: Encoder, labels: Sequence[str]) -> str:
        """The rules of its trees, with the shares of the classes at every leaf."""

        def says(value: Array) -> str:
            return ", ".join(f"{label} {share:.1%}" for label, share in zip(labels, value, strict=True))

        return "\n\n".join(rules(tree, names_of(encoder), says) for tree in self.trees) + "\n"


def floats(array: Array) -> Tensor:
    """A float32 tensor of its own."""
    return torch.from_numpy(np.array(array, np.float32))


def linear_module(encoder: Encoder, outputs: int) -> LinearFeatures:
    """Coefficients of 0 for the columns of an `Estimator`'s encoder."""
    return LinearFeatures(len(names_of(encoder)), outputs)


def check_clip(clip: float) -> None:
    """Refuse what is no margin of probabilities."""
    if not 0 < clip < 0.5:
        raise UserError(f"clip is {clip}; it must be above 0 and below 0.5")


def _csv(cells: Sequence[str]) -> str:
    return ",".join('"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n\r') else cell for cell in cells)
