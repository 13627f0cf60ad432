"""A predictor made of predictors: the weighted mean of what several say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.stats import rankdata

from limbeck import parts
from limbeck.brought import KINDS_OF
from limbeck.errors import UserError, counted
from limbeck.measure import on_threads
from limbeck.task import Problem
from limbeck.types import Array, Batch, Kind, Predictor, Signals, fingerprint

Space = Literal["logits", "probabilities", "ranks", "standardised"]


@dataclass(frozen=True)
class Ensemble:
    """Several teachers as one.

    Args:
        members: each `{from: <teacher>, ...}`, or a model to be trained, which the run binds.
        weights: one a member, `equal`, or `validation`: those that do best on validation rows, which the
            run finds with `fit_weights`.
        space: where the mean is taken, see `combine`; of forecasts it is that of the numbers and of their quantiles.
        signal: the signal the members say; by default the task's own.
        apart: also say what each member says, as `logits.0`, `logits.1` and so on, and how it is weighed, as
            `share` (B, members), for a loss that tells them apart row by row.
        route: a column by whose value a row is sent to one member, such as its language; none: all are asked.
        to: value of that column -> position of the member, from 0; rows of other values are for all.
    """

    members: tuple[Mapping[str, Any], ...]
    weights: tuple[float, ...] | Literal["equal", "validation"] = "equal"
    space: Space = "probabilities"
    signal: str | None = None
    apart: bool = False
    route: str | None = None
    to: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError("ensemble: 'members' is empty; it needs at least one")
        if not isinstance(self.weights, str):
            _normal(self.weights, len(self.members))
        if (self.route is None) != (not self.to):
            raise UserError("ensemble: route names a column and `to` says which member its values go to; give both")
        if not all(0 <= at < len(self.members) for at in self.to.values()):
            raise UserError(f"ensemble: `to` names {dict(self.to)}; there are members 0 to {len(self.members) - 1}")

    def open(self, problem: Problem, base: Path) -> EnsemblePredictor:
        """Open members that are all brought.

        Raises:
            UserError: a member is to be trained, or has something wrong; or weights wait for validation rows.
        """
        opened = []
        for at, member in enumerate(self.members, 1):
            settings = dict(member)
            name = settings.pop("from", None)
            if not isinstance(name, str):
                raise UserError(f"ensemble: member {at} says nothing under 'from', so it must be trained by a run")
            opened.append(parts.make("teachers", name, settings).open(problem, base))
        return self.bind(opened, problem)

    def bind(
        self, members: Sequence[Predictor], problem: Problem, weights: Sequence[float] | None = None
    ) -> EnsemblePredictor:
        """The ensemble of predictors that exist already, in the order of `members`.

        Args:
            members: trained or opened.
            problem: names the main signal.
            weights: those fitted, where the setting is `validation`.

        Raises:
            UserError: weights are still to be fitted.
        """
        chosen = weights if weights is not None else self.weights
        if isinstance(chosen, str):
            if chosen == "validation":
                raise UserError("ensemble: weights 'validation' must be fitted on validation rows before it answers")
            chosen = [1.0] * len(members)
        signal = self.signal or KINDS_OF.get(problem.axis.name, "scores")
        route = self.routed(problem)
        return EnsemblePredictor(members, chosen, self.space, signal=signal, apart=self.apart, route=route)

    def routed(self, problem: Problem) -> Route | None:
        """By what rows are sent to one member; none where all are asked about all.

        Raises:
            UserError: the rows lack the column.
        """
        if self.route is None:
            return None
        if self.route not in problem.train.names:
            raise UserError(f"ensemble: route is '{self.route}'; the rows have {', '.join(problem.train.names)}")
        return Route(self.route, self.to)


@dataclass(frozen=True)
class Route:
    """Which member answers a row.

    Args:
        column: that decides.
        to: its value, as text -> position of the member.
    """

    column: str
    to: Mapping[str, int]

    def shares(self, batch: Batch, weights: Sequence[float]) -> Array:
        """What each member counts for in each row, (B, members); by `weights` where a value leads to nobody."""
        found = np.tile(np.asarray(weights, np.float64), (len(batch.key.id), 1))
        alone = np.eye(len(weights))
        for row, value in enumerate(batch[self.column]):
            if str(value) in self.to:
                found[row] = alone[self.to[str(value)]]
        return found


class EnsemblePredictor:
    """The weighted mean of members' main signals.

    Args:
        members: predictors that say `signal`, all of one kind and as long.
        weights: one a member, 0 or more; only their proportions count.
        space: where the mean is taken, see `combine`.
        signal: the signal they say.
        apart: whether what each says, and its share, is said as well.
        route: which rows are one member's alone.
    """

    def __init__(
        self,
        members: Sequence[Predictor],
        weights: Sequence[float],
        space: Space,
        *,
        signal: str = "logits",
        apart: bool = False,
        route: Route | None = None,
    ) -> None:
        self.members = tuple(members)
        self.weights = _normal(weights, len(self.members))
        self.space: Space = space
        self.signal = signal
        self.apart = apart
        self.route = route

    @property
    def reads(self) -> tuple[str, ...]:
        """Every column any member reads, and the one that routes."""
        own = (self.route.column,) if self.route else ()
        return tuple(dict.fromkeys([*(name for member in self.members for name in member.reads), *own]))

    @property
    def fingerprint(self) -> str:
        """Of the members, the weights and the space."""
        told = [member.fingerprint for member in self.members]
        how = {"weights": self.weights, "space": self.space, "signal": self.signal}
        more: dict[str, Any] = {"apart": 2} if self.apart else {}
        if self.route:
            more["route"] = [self.route.column, dict(self.route.to)]
        return fingerprint("ensemble", 1, members=told, **how, **more)

    def __call__(self, batch: Batch) -> Signals:
        """The mean, with every member's notes.

        Raises:
            UserError: members differ in length or kind, or the mean has no meaning for their kind.
        """
        said = [member(batch.only(member.reads)) for member in self.members]
        values = [self._main(one, at) for at, one in enumerate(said, 1)]
        kinds = list(dict.fromkeys(one.kinds[self.signal] for one in said))
        if len(kinds) > 1:
            raise UserError(f"ensemble: members say '{self.signal}' of different kinds: {', '.join(kinds)}")
        if kinds[0] == "logits" and self.space in {"ranks", "standardised"}:
            raise UserError(f"ensemble: '{self.space}' suits rankings; take logits in 'probabilities' or 'logits'")
        if kinds[0] not in {"logits", "scores", "values"}:
            raise UserError(
                f"ensemble: '{self.signal}' is of kind {kinds[0]}; members must say logits, scores or values"
            )
        shares = self.route.shares(batch, self.weights) if self.route else np.tile(self.weights, (len(values[0]), 1))
        mean = _combined(values, shares, space_of(kinds[0], self.space))
        notes = tuple(dict.fromkeys(note for one in said for note in one.notes))
        told = {self.signal: mean.astype(np.float32)}
        known: dict[str, Kind] = dict.fromkeys(told, kinds[0])
        if kinds[0] == "values" and all("quantiles" in one for one in said):
            several = [np.asarray(one["quantiles"], np.float64) for one in said]
            told["quantiles"] = _combined(several, shares, "logits").astype(np.float32)
            known["quantiles"] = "quantiles"
        if self.apart:
            told |= {f"{self.signal}.{i}": value.astype(np.float32) for i, value in enumerate(values)}
            told["share"] = shares.astype(np.float32)
            known["share"] = "values"
        return Signals(told, {**dict.fromkeys(told, kinds[0]), **known}, notes=notes)

    def on_threads(self, count: int) -> EnsemblePredictor:
        """The same answers, by members on so many threads."""
        members = [on_threads(member, count) for member in self.members]
        return EnsemblePredictor(
            members, self.weights, self.space, signal=self.signal, apart=self.apart, route=self.route
        )

    def _main(self, said: Signals, at: int) -> Array:
        if self.signal in said:
            return np.asarray(said[self.signal], np.float64)
        if f"{self.signal}.ids" in said:
            raise UserError(f"ensemble: member {at} tells only the best of '{self.signal}'; label it without top-k")
        raise UserError(f"ensemble: member {at} does not say '{self.signal}'; it says: {', '.join(said) or 'nothing'}")


def space_of(kind: Kind, space: Space) -> Space:
    """Where a mean of such numbers is taken: of values (and of their quantiles, level by level) among themselves."""
    return "logits" if kind == "values" else space


def combine(signals: Sequence[Array], weights: Sequence[float], space: Space) -> Array:
    """The weighted mean of signals, row by row.

    | space | mean of | answer |
    |---|---|---|
    | `logits` | the numbers | the numbers' scale; -inf where a weighted member has -inf |
    | `probabilities` | softmax | its logarithm, computed without underflow |
    | `standardised` | (x - mean) / sd over a row's finite entries | standard deviations |
    | `ranks` | rank / C, 1 the best | in (0, 1] |

    In the last two an entry that only some members mask counts as those members' worst; one that every
    weighted member masks stays -inf.

    Args:
        signals: one a member, all (B, C).
        weights: one a member, 0 or more.
        space: as in the table.

    Returns:
        Float64 (B, C).

    Raises:
        UserError: the signals differ in shape.

    >>> combine([np.array([[0.0, 2.0]]), np.array([[0.0, 4.0]])], [1, 1], "logits").tolist()
    [[0.0, 3.0]]
    """
    shares = _normal(weights, len(signals))
    for at, signal in enumerate(signals, 1):
        if signal.shape != signals[0].shape:
            raise UserError(f"ensemble: member {at} says {signal.shape} numbers, member 1 {signals[0].shape}")
    counted = [(np.asarray(s, np.float64), w) for s, w in zip(signals, shares, strict=True) if w > 0]
    if space == "probabilities":
        stacked = np.stack([log_softmax(signal, axis=1) + np.log(share) for signal, share in counted])
        return np.asarray(logsumexp(stacked, axis=0))
    if space == "logits":
        return np.asarray(sum(signal * share for signal, share in counted))
    scaled = _standardised if space == "standardised" else _ranks
    mean = np.asarray(sum(scaled(signal) * share for signal, share in counted))
    mean[np.all([np.isneginf(signal) for signal, _ in counted], axis=0)] = -np.inf
    return mean


def _combined(signals: Sequence[Array], shares: Array, space: Space) -> Array:
    """`combine` with weights of each row's own, (B, members): rows that are weighed alike go together."""
    alike, of = np.unique(shares, axis=0, return_inverse=True)
    if len(alike) == 1:
        return combine(signals, alike[0].tolist(), space)
    mean = np.empty(signals[0].shape)
    for at, weights in enumerate(alike):
        rows = of.ravel() == at
        mean[rows] = combine([signal[rows] for signal in signals], weights.tolist(), space)
    return mean


def fit_weights(
    signals: Sequence[Array], score: Callable[[Array], float], *, space: Space = "probabilities", steps: int = 10
) -> tuple[float, ...]:
    """The weights whose mean scores best, on validation rows.

    Up to three members: every point of a grid on the simplex. More: from the best of equal weights and
    single members, moves of one step's weight between two members as long as they help. Neither
    ever does worse than equal weights or the best single member, on these rows.

    Args:
        signals: one a member, all (B, C).
        score: of a mean (B, C); higher is better.
        space: where the mean is taken.
        steps: the grid's step is 1 / steps.

    Returns:
        One a member, adding to 1.

    >>> fit_weights([np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])], lambda mean: mean[0, 1], space="logits")
    (1.0, 0.0)
    """
    if steps < 1:
        raise UserError(f"ensemble: steps is {steps}; it must be 1 or more")
    count = len(signals)
    corners = [tuple(float(i == j) for j in range(count)) for i in range(count)]
    tried: dict[tuple[float, ...], float] = {}

    def value(weights: tuple[float, ...]) -> float:
        if weights not in tried:
            tried[weights] = score(combine(signals, weights, space))
        return tried[weights]

    start = [(1 / count,) * count, *corners]
    if count <= 3:
        counts = itertools.product(range(steps + 1), repeat=count)
        grid = [tuple(n / steps for n in point) for point in counts if sum(point) == steps]
        return max([*start, *grid], key=value)  # the first of equals, so equal weights win a tie
    best = max(start, key=value)
    while True:
        better = max([best, *_moves(best, 1 / steps)], key=value)
        if value(better) <= value(best):
            return best
        best = better


def _moves(weights: tuple[float, ...], step: float) -> list[tuple[float, ...]]:
    moves = []
    for giver, taker in itertools.permutations(range(len(weights)), 2):
        share = min(step, weights[giver])
        if share > 1e-9:
            moved = list(weights)
            moved[giver] -= share
            moved[taker] += share
            moves.append(tuple(round(weight, 12) for weight in moved))
    return moves


def _normal(weights: Sequence[float], members: int) -> tuple[float, ...]:
    """Weights adding to 1."""
    if len(weights) != members:
        raise UserError(f"ensemble: {counted(len(weights), 'weight')} for {counted(members, 'member')}")
    if not all(0 <= weight < np.inf for weight in weights) or not sum(weights) > 0:
        raise UserError(f"ensemble: weights are {list(weights)}; they must be 0 or more, and not all 0")
    total = float(sum(weights))
    return tuple(float(weight) / total for weight in weights)


def _standardised(signal: Array) -> Array:
    there = np.isfinite(signal)
    count = np.maximum(there.sum(1, keepdims=True), 1)
    mean = np.where(there, signal, 0.0).sum(1, keepdims=True) / count
    spread = np.sqrt((np.where(there, signal - mean, 0.0) ** 2).sum(1, keepdims=True) / count)
    scaled = np.where(there, signal - mean, 0.0) / np.where(spread > 0, spread, 1.0)
    return np.where(there, scaled, np.where(there, scaled, 0.0).min(1, keepdims=True))


def _ranks(signal: Array) -> Array:
    return np.asarray(rankdata(signal, method="min", axis=1)) / signal.shape[1]
