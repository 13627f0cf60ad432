"""A search that can be killed: an Optuna study of several aims, asked for settings one trial at a time.

A trial's settings hang on its number, the seed and the trials before it. What was killed therefore goes on with the
very trials it would have made, and a trial it was in the middle of is taken up again.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from limbeck.bounds import Range, Tune
from limbeck.errors import UserError
from limbeck.front import Candidate, excess, own

FEWEST = 5
"""Whole trainings to compare with, before one is given up."""

Space = Mapping[str, Range | Sequence[Any]]
"""Setting -> the range or the list it is drawn from."""


@dataclass(frozen=True)
class Past:
    """A whole trial that was done.

    Args:
        number: from 0.
        settings: that were tried.
        files: it led to.
        curve: epoch -> headline on validation rows; empty where it was fitted.
    """

    number: int
    settings: Mapping[str, Any]
    files: tuple[Candidate, ...]
    curve: Mapping[int, float]


class Search:
    """One study.

    Args:
        storage: URL of the database that remembers it.
        name: of the study; what has another meaning must have another name.
        space: what is searched.
        tune: how.
        higher_is_better: of the headline.

    Raises:
        UserError: the storage cannot be opened.
    """

    def __init__(self, storage: str, name: str, space: Space, tune: Tune, *, higher_is_better: bool) -> None:
        self.space, self.tune = space, tune
        self.sign = 1.0 if higher_is_better else -1.0
        # Optuna tells of every trial, and of what it calls experimental; neither is news.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        first = StudyDirection.MAXIMIZE if higher_is_better else StudyDirection.MINIMIZE
        directions = [first, *(StudyDirection.MINIMIZE for _ in tune.costs)]
        try:
            self.study = optuna.create_study(
                storage=storage, study_name=name, directions=directions, load_if_exists=True, sampler=self._sampler(0)
            )
        except (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError) as wrong:
            raise UserError(f"the search cannot be kept in {storage}: {wrong}") from wrong

    @property
    def done(self) -> int:
        """Trials that are over, be it well or not."""
        return len(self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))

    @property
    def pruned(self) -> int:
        """Trials that were given up early."""
        return len(self._trials(TrialState.PRUNED))

    @property
    def failed(self) -> int:
        """Trials that led to no file."""
        return len(self._trials(TrialState.FAIL))

    @property
    def past(self) -> list[Past]:
        """The trials that led to files, in order."""
        return [_past(trial) for trial in self._trials(TrialState.COMPLETE)]

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Those that count: a search that made more once, and is now asked for fewer, is one of fewer."""
        return [one for one in self.study.get_trials(deepcopy=False, states=states) if one.number < self.tune.trials]

    def ask(self, given: Mapping[str, Any]) -> tuple[optuna.Trial, dict[str, Any]]:
        """The trial to make now, and its settings; the first has those that are `given`, where the space has them."""
        left = self._trials(TrialState.RUNNING)
        number = left[0].number if left else self.done
        self.study.sampler = self._sampler(number)
        if not number and not left:
            inside = {key: value for key, value in given.items() if _contains(self.space[key], value)}
            self.study.enqueue_trial({k: _written(self.space[k], v) for k, v in inside.items()}, skip_if_exists=True)
        trial = optuna.Trial(self.study, left[0]._trial_id) if left else self.study.ask()
        return trial, {key: _suggested(trial, key, room, given.get(key)) for key, room in self.space.items()}

    def tell(
        self, trial: optuna.Trial, settings: Mapping[str, Any], files: Sequence[Candidate], curve: Mapping[int, float]
    ) -> None:
        """What a whole trial led to."""
        chosen = own(files, self.tune.budget, self.sign)
        trial.set_user_attr("settings", dict(settings))
        trial.set_user_attr(
            "files", [asdict(replace(one, trial=trial.number, settings=dict(settings))) for one in files]
        )
        trial.set_user_attr("curve", {str(epoch): value for epoch, value in curve.items()})
        for name, share in excess(chosen, self.tune.budget).items():
            trial.set_constraint(name, share)
        values = [float(chosen.value or 0.0), *(float(getattr(chosen, cost)) for cost in self.tune.costs)]
        self.study.tell(trial, values, skip_if_finished=True)

    def give_up(self, trial: optuna.Trial, *, failed: bool) -> None:
        """A trial led to nothing: it failed, or was stopped."""
        self.study.tell(trial, state=TrialState.FAIL if failed else TrialState.PRUNED, skip_if_finished=True)

    def behind(self, parameters: int, curve: Mapping[int, float]) -> bool:
        """Whether a training so far is worse than the middle one of those no larger at the same epoch.

        Larger ones are no measure: a small student that is worse than they are may still be the best of its size.
        """
        if not self.tune.prune:
            return False
        epoch = max(curve)
        peers = [one.curve for one in self.past if one.files[0].parameters <= parameters]
        reached = [self._so_far(peer, epoch) for peer in peers if peer and max(peer) >= epoch]
        return len(reached) >= FEWEST and self._so_far(curve, epoch) < float(np.median(reached))

    def _so_far(self, curve: Mapping[int, float], epoch: int) -> float:
        return max(self.sign * value for at, value in curve.items() if at <= epoch)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=self.tune.seed + 10_000 * number, multivariate=True)


def _past(trial: FrozenTrial) -> Past:
    said = trial.user_attrs
    files = tuple(Candidate(**one) for one in said["files"])
    return Past(trial.number, said["settings"], files, {int(epoch): value for epoch, value in said["curve"].items()})


def _whole(room: Range, given: Any) -> bool:
    return isinstance(room.low, int) and isinstance(room.high, int) and not isinstance(given, float)


def _contains(room: Range | Sequence[Any], value: Any) -> bool:
    if not isinstance(room, Range):
        return value in room
    return isinstance(value, int | float) and room.low <= value <= room.high


def _written(room: Range | Sequence[Any], value: Any) -> Any:
    """A value as Optuna keeps it: of a list, which may hold anything, as JSON."""
    return value if isinstance(room, Range) else json.dumps(value)


def _suggested(trial: optuna.Trial, key: str, room: Range | Sequence[Any], given: Any) -> Any:
    if not isinstance(room, Range):
        return json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in room]))
    if _whole(room, given):
        return trial.suggest_int(key, int(room.low), int(room.high), log=room.log)
    drawn = trial.suggest_float(key, float(room.low), float(room.high), log=room.log)
    # Four digits are all that a rate deserves, and what a person can type again.
    return min(max(float(f"{drawn:.4g}"), float(room.low)), float(room.high))
