"""What models of tables share: the columns they read, and a vector for every value of every column."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.columns import Columns, Place
from limbeck.errors import UserError, few
from limbeck.recalibration import Calibration, Way
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

AT_ONCE = 4096
"""Rows a call when calibrating."""


@dataclass(frozen=True)
class ColumnReader:
    """Settings of every model of a table.

    Args:
        privileged: also read the columns with the role `privileged`, which only a teacher may.
        without: columns that it does not read.
    """

    privileged: bool = False
    without: tuple[str, ...] = ()

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def columns(self, problem: Problem) -> Columns:
        """The columns, fitted on the training rows.

        Raises:
            UserError: the rows are no table with features.
        """
        roles = problem.train.roles
        features = roles.get("features")
        if features is None:
            raise UserError("no column has the role 'features'; models of tables read the columns that it names")
        more = roles.get("privileged", ()) if self.privileged else ()
        told = [*features, *((more,) if isinstance(more, str) else more)]
        strange = [name for name in self.without if name not in told]
        if strange:
            raise UserError(f"without names {few(strange)}, which are not read anyway; there are: {', '.join(told)}")
        names = [name for name in told if name not in self.without]
        return Columns.fit(problem.train, names, {k: v for k, v in problem.columns.items() if k in names})

    def encoder(self, problem: Problem) -> Encoder:
        """The columns as ids and numbers."""
        return Encoder([self.columns(problem)])


class Answer(nn.Module):
    """What a model computes, calibrated, as logits.

    Args:
        core: columns to (B, H).
        calibration: of that.
    """

    def __init__(self, core: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self.core = core
        self.calibration = calibration

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Columns to logits (B, C)."""
        return as_logits(self.calibration(self.core(ids, weights, numbers)))


@dataclass(frozen=True)
class Descended(ColumnReader, ABC):
    """Settings of every model of a table that is descended.

    Args:
        calibration: how its chances are put right by the validation rows once it is trained: `none`, `temperature`,
            `platt` or `isotonic`.
    """

    calibration: Way = "none"

    @abstractmethod
    def core(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Columns to (B, H), with fresh weights; H is `outputs`."""

    def module(self, encoder: Encoder, outputs: int) -> Answer:
        """Fresh weights, and a calibration that changes nothing yet."""
        return Answer(self.core(encoder, heads(outputs)), Calibration(self.calibration, heads(outputs)))

    def calibrate(self, module: nn.Module, inputs: Mapping[str, Array], label: Array) -> None:
        """Fit the calibration.

        Args:
            module: trained.
            inputs: the encoder's tensors of rows that it was not trained on.
            label: positions, int64 (N,); -1 without a label.
        """
        assert isinstance(module, Answer)
        module.eval()
        rows = np.flatnonzero(label >= 0)
        said = []
        with torch.no_grad():
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                said.append(module.core(**{k: torch.from_numpy(v[some]) for k, v in inputs.items()}).numpy())
        module.calibration.fit(np.concatenate(said), label[rows])


@dataclass(frozen=True)
class Embedder(Descended):
    """Settings of every model that gives each value a vector.

    Args:
        width: D, numbers a vector.
        spread: standard deviation of fresh vectors.
        dropout: share of the numbers hidden in training.
        unknown: share of the known values shown as unknown in training, so that unseen ones are no surprise.
        shared: give the values of a history the vectors of the column it is of; else they have their own.
    """

    width: int = 16
    spread: float = 0.01
    dropout: float = 0.0
    unknown: float = 0.0
    shared: bool = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width is {self.width}; a vector needs at least 1 number")
        if not (0 <= self.dropout < 1 and 0 <= self.unknown < 1):
            raise UserError(f"dropout is {self.dropout} and unknown {self.unknown}; both are shares, below 1")

    def vectors(self, encoder: Encoder) -> FieldVectors:
        """Fresh vectors."""
        columns, spread = columns_of(encoder), self.spread
        return FieldVectors(columns, self.width, spread=spread, unknown=self.unknown, shared=self.shared)


@dataclass(frozen=True)
class DeepEmbedder(Embedder):
    """Settings of those with hidden layers.

    Args:
        hidden: their widths.
    """

    hidden: tuple[int, ...] = (64, 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1:
            raise UserError(f"hidden is {list(self.hidden)}; one width or more, of 1 or more, were wanted")


def columns_of(encoder: Encoder) -> Columns:
    """The columns of an encoder that a `ColumnReader` made."""
    (found,) = encoder.encodings
    assert isinstance(found, Columns)
    return found


class Linear(nn.Module):
    """A linear model: a weight for every value and number, and a bias.

    Args:
        columns: fitted.
        outputs: H.
    """

    def __init__(self, columns: Columns, outputs: int) -> None:
        super().__init__()
        self.value = nn.Embedding(columns.size, outputs)
        self.number = nn.Parameter(torch.zeros(len(columns.number_names), outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.zeros_(self.value.weight)

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to (B, H)."""
        total: Tensor = (self.value(ids) * weights.unsqueeze(2)).sum(1) + numbers @ self.number + self.bias
        return total


class FieldVectors(nn.Module):
    """A vector for every column of a row.

    The vector of a category is its value's, that of a set the mean of its values', that of a text the sum of its
    terms' by their weights, and a number's its value times a vector. A history's values have the vectors of the
    column it is of.

    Args:
        columns: fitted.
        width: D, numbers a vector.
        spread: standard deviation of fresh vectors.
        unknown: share of the known values shown as unknown in training, column by column, so that unseen ones are no
            surprise.
        shared: whether a history's values have the vectors of the column it is of.
    """

    own: Tensor
    stranger: Tensor
    owner: Tensor

    def __init__(
        self, columns: Columns, width: int, *, spread: float = 0.01, unknown: float = 0.0, shared: bool = True
    ) -> None:
        super().__init__()
        self.places = tuple(place for place in columns.layout if place.field.size)
        self.columns = (
            *(place.field.column for place in self.places),
            *(place.field.column for place in columns.layout for _ in place.field.numbers()),
        )
        self.table = nn.Embedding(columns.size, width)
        self.number = nn.Parameter(torch.empty(len(columns.number_names), width))
        self.unknown = unknown
        nn.init.normal_(self.table.weight, std=spread)
        nn.init.normal_(self.number, std=spread)
        with torch.no_grad():
            self.table.weight[0] = 0.0
        # Where the vector of an id lies, and which id says that a slot's value is unknown.
        own, stranger = torch.arange(columns.size), []
        for place in self.places:
            if shared and place.field.of is not None:
                of = columns.place(place.field.of).ids
                own[place.ids] = torch.arange(of.start, of.stop)
            stranger += [place.ids.start] * (place.slots.stop - place.slots.start)
        owner = [n for n, place in enumerate(self.places) for _ in range(place.slots.stop - place.slots.start)]
        self.register_buffer("own", own, persistent=False)
        self.register_buffer("stranger", torch.tensor(stranger, dtype=torch.int64), persistent=False)
        self.register_buffer("owner", torch.tensor(owner, dtype=torch.int64), persistent=False)

    @property
    def flat(self) -> int:
        """Numbers of a row's vectors side by side."""
        return (len(self.places) + len(self.number)) * self.table.embedding_dim

    def place(self, column: str) -> Place:
        """Of a column with values."""
        return next(place for place in self.places if place.field.column == column)

    def slots(self, ids: Tensor) -> Tensor:
        """Ids (B, S) to vectors (B, S, D); in training some values are forgotten."""
        if self.training and self.unknown > 0:
            hidden = torch.rand(len(ids), len(self.places), device=ids.device) < self.unknown
            ids = torch.where(hidden[:, self.owner] & (ids > 0), self.stranger, ids)
        found: Tensor = self.table(self.own[ids])
        return found

    def pooled(self, slots: Tensor, weights: Tensor) -> list[Tensor]:
        """Slots' vectors to one vector (B, D) for every column with values."""
        weighted = slots * weights.unsqueeze(2)
        return [weighted[:, place.slots].sum(1) for place in self.places]

    def joined(self, pooled: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """Vectors (B, D) of columns with values, and numbers (B, F), to all vectors."""
        scaled = numbers.unsqueeze(2) * self.number
        return torch.cat([torch.stack(list(pooled), 1), scaled], 1) if pooled else scaled

    def forward(self, ids: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Columns to vectors (B, F, D): those with values first, in order, and the numbers behind them."""
        return self.joined(self.pooled(self.slots(ids), weights), numbers)


def pairs(vectors: Tensor) -> Tensor:
    """The sum over all pairs of columns of their vectors' products, (B, F, D) to (B, D).

    Source: Rendle 2010, equation 1, by lemma 3.1 in time linear in F; He and Chua 2017 call it bi-interaction.

    >>> pairs(torch.tensor([[[1.0], [2.0], [3.0]]])).item()
    11.0
    """
    return (vectors.sum(1) ** 2 - (vectors**2).sum(1)) / 2


class Products(nn.Module):
    """A linear model and the products of all pairs of vectors: a factorisation machine.

    Args:
        columns: fitted.
        width: D.
        outputs: H; where there are several, each weighs the products in its own way.
    """

    def __init__(self, columns: Columns, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = Linear(columns, outputs)
        self.mix = nn.Linear(width, outputs, bias=False) if outputs > 1 else None

    def forward(self, columns: tuple[Tensor, Tensor, Tensor], vectors: Tensor) -> Tensor:
        """Columns, and their vectors (B, F, D), to (B, H)."""
        found = pairs(vectors)
        total: Tensor = self.linear(*columns) + (found.sum(1, keepdim=True) if self.mix is None else self.mix(found))
        return total


class Hidden(nn.Module):
    """Fully connected layers with a rectifier behind each, and a linear one.

    Args:
        sizes: of what comes in and of the hidden layers.
        outputs: of the last layer.
        dropout: share of every hidden layer's numbers hidden in training.
    """

    def __init__(self, sizes: Sequence[int], outputs: int, *, dropout: float) -> None:
        super().__init__()
        made: list[nn.Module] = []
        for before, after in pairwise(sizes):
            made += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*made)
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, flat: Tensor) -> Tensor:
        """(B, W) to (B, `outputs`)."""
        said: Tensor = self.head(self.body(flat))
        return said


def heads(outputs: int) -> int:
    """Numbers a model of C classes computes: one margin where there are two."""
    return 1 if outputs == 2 else outputs


def as_logits(said: Tensor) -> dict[str, Tensor]:
    """Margins of yes over no (B, 1) as the logits of both, their difference the margin; (B, C) as they are."""
    return {"logits": torch.cat([-said / 2, said / 2], 1) if said.shape[1] == 1 else said}
