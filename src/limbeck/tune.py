"""A search for settings: the best student within a budget, and as many trials for its honest twin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from limbeck import parts
from limbeck.bind import hard_name, needs_teacher, taught_rows
from limbeck.bounds import Budget, Range
from limbeck.errors import Diverged, ParityRefused, Stopped, UserError, few
from limbeck.front import Candidate, Picked, Tuning, best, marked, own
from limbeck.leave import measured
from limbeck.lesson import Lesson, Lessons, lesson_of, with_choice
from limbeck.model import Model
from limbeck.progress import Teller
from limbeck.recipe import Recipe, Student
from limbeck.report import Report
from limbeck.run import Split, begin, descended, labelled_split, outcome_of, reported, timed, twin_of
from limbeck.search import Search, Space
from limbeck.task import Problem, Task
from limbeck.teach import Desk, Lived, teach
from limbeck.types import fingerprint


@dataclass(frozen=True)
class Side:
    """A student, or its twin, as it is searched for.

    Args:
        role: which of the two.
        taught: settings to how it is trained with them.
        space: what is searched.
        given: its settings before any search, and what they led to.
        lived: trained with those.
    """

    role: Literal["student", "scratch"]
    taught: Lessons
    space: Space
    given: Mapping[str, Any]
    lived: Lived


def tune(recipe: Recipe, *, base: Path, out: Path, teller: Teller | None = None, storage: str | None = None) -> Report:
    """Search for the best of every student within the recipe's budget, on validation rows alone.

    Under the first protocol, and on its first split: a search on one split's validation rows must not be judged on
    another split's test rows, among which those may be. The student as given, the best within the budget, and the
    best of those no larger than the given one are judged on test rows once, each beside its twin.

    Args:
        recipe: as read.
        base: the folder its paths count from.
        out: where the report, the artifacts and the search's database go.
        teller: where progress goes.
        storage: URL of another database, as Optuna reads it.

    Returns:
        The report, which `out` holds as JSON, Markdown and a page.

    Raises:
        UserError: as a run; a student with nothing to search, or a database that cannot be opened.
        GateRefused: the teacher does not beat the trivial baselines.
        Diverged: the student as given does not train; a trial that does not, fails alone, and one that is picked and
            does not hold for another seed leaves its place to the next best.
    """
    chained = [student.title for student in recipe.students if student.generations > 1]
    if chained:
        raise UserError(f"a search tries single trainings, and {few(chained)} has generations; leave those out")
    desk, bound = begin(recipe, base, out, teller, flow="tune")
    storage = storage or f"sqlite:///{(out / 'tune.db').resolve()}"
    protocol = recipe.protocols[0].model_copy(update={"splits": recipe.protocols[0].splits[:1]})
    split = descended(desk, recipe, labelled_split(desk, bound, protocol, protocol.splits[0]))
    found = [one for student in recipe.students for one in _tuned(desk, recipe, student, split, storage)]
    outcome = replace(outcome_of(desk, recipe, protocol, [split]), tunings=tuple(found))
    return reported(desk, bound, [outcome], out)


def _tuned(desk: Desk, recipe: Recipe, student: Student, split: Split, storage: str) -> Iterator[Tuning]:
    """Search for a student and for its twin; those that are picked join the split."""
    sides = _sides(desk, recipe, student, split)
    with timed(desk, "tune"):
        searches = [_searched(desk, side, recipe, split.problem, storage) for side in sides]
    sign = 1.0 if desk.task.higher_is_better else -1.0
    budget = recipe.tune.budget
    given = own(files_of(desk, sides[0].lived, split.problem, recipe), budget, sign)

    def picked(name: str, within: Budget) -> tuple[Picked | None, Picked | None]:
        trials = [[past.files for past in search.past] for search in searches]
        pupil = _holding(desk, sides[0], trials[0], partial(best, budget=within, sign=sign), recipe.seeds)
        if pupil is None:
            return None, None
        twin = _holding(desk, sides[1], trials[1], partial(best, budget=within, sign=sign), recipe.seeds)
        # A twin of which nothing fits is the student's own, at its settings.
        split.students[name] = pupil[1]
        split.twins[name] = twin[1] if twin else _lived(desk, sides[1], pupil[0].settings, recipe.seeds)
        return Picked(name=name, candidate=pupil[0]), Picked(name=name, candidate=twin[0]) if twin else None

    with timed(desk, "distill"):
        top = picked(f"{student.title}-tuned", budget)
        lean = top
        if top[0] is not None and top[0].candidate.bytes > given.bytes:
            lean = picked(f"{student.title}-lean", replace(budget, bytes=given.bytes))
    for side, search, the_best, the_lean in zip(sides, searches, top, lean, strict=True):
        files = [file for past in search.past for file in past.files]
        yield Tuning(
            student=student.title,
            role=side.role,
            trials=search.done,
            pruned=search.pruned,
            failed=search.failed,
            budget=dict(budget.limits),
            candidates=marked(files, recipe.tune.costs, budget, sign),
            given=given if side.role == "student" else None,
            best=the_best,
            lean=the_lean,
        )


def _sides(desk: Desk, recipe: Recipe, student: Student, split: Split) -> tuple[Side, Side]:
    problem, title = split.problem, student.title
    lesson = lesson_of(recipe, student, problem, taught_rows(problem), split.store, split.tutor.predictor)
    space = space_of(desk.task, lesson, student, cut=recipe.label.top is not None)
    alone = {key: room for key, room in space.items() if _without_teacher(desk.task, lesson, key)}
    if not space:
        raise UserError(f"'{title}' has nothing to search; name settings under `tune`, or leave out the empty one")
    given = {key: given_of(desk.task, lesson, key) for key in space}

    def side(role: Literal["student", "scratch"], taught: Lessons, room: Space, lived: Lived) -> Side:
        return Side(role, taught, room, {key: {**given, **lived.chosen}[key] for key in room}, lived)

    return (
        side("student", partial(with_choice, lesson), space, split.students[title][0]),
        side("scratch", twin_of(desk.task, lesson, problem.train), alone, split.twins[title][0]),
    )


def space_of(task: Task, lesson: Lesson, student: Student, *, cut: bool) -> dict[str, Range | list[Any]]:
    """What is searched: the student's lists and ranges, or in place of ranges those around what is given.

    Args:
        task: of the recipe.
        lesson: of the student as given.
        student: of the recipe.
        cut: whether knowledge is cut to its best entries, so that no temperature may be tried that it keeps no tail of.
    """
    lists: dict[str, Range | list[Any]] = dict(student.choose)
    if student.tune is not None:
        return {**lists, **student.tune}
    family = parts.make("models", lesson.family, dict(lesson.settings))
    wanted = {} if hasattr(family, "fit") else {"training.learning_rate": 10.0}
    wanted |= {"width": 4.0} if "width" in parts.settings_of(type(family)) else {}
    for place in range(len(lesson.losses)):
        wanted |= {f"objective.{place}.weight": 4.0} if place else {}
        named = parts.settings_of(parts.get("losses", _loss_name(task, lesson, place)))
        wanted |= {f"objective.{place}.temperature": 4.0} if "temperature" in named and not cut else {}
    given = {key: given_of(task, lesson, key) for key in wanted}
    around = {key: _around(value, wanted[key]) for key, value in given.items() if _is_number(value) and value > 0}
    return {**around, **lists}


def given_of(task: Task, lesson: Lesson, key: str) -> Any:
    """What a lesson has for a setting before any search."""
    if key.startswith("training."):
        return getattr(lesson.training, key.removeprefix("training."))
    if not key.startswith("objective."):
        return {**parts.settings_of(parts.get("models", lesson.family)), **lesson.settings}[key]
    _, place, name = key.split(".", 2)
    loss = lesson.losses[int(place)]
    if name == "weight":
        return loss.weight
    return {**parts.settings_of(parts.get("losses", _loss_name(task, lesson, int(place)))), **loss.settings}[name]


def _loss_name(task: Task, lesson: Lesson, place: int) -> str:
    loss = lesson.losses[place].loss
    return hard_name(task, parts.get("models", lesson.family)) if loss == "hard" else loss


def _without_teacher(task: Task, lesson: Lesson, key: str) -> bool:
    """Whether a setting means something to the twin: not those of losses it lacks, nor the weight of its only one."""
    if not key.startswith("objective."):
        return True
    _, place, name = key.split(".", 2)
    family = parts.get("models", lesson.family)
    kept = [i for i, loss in enumerate(lesson.losses) if not needs_teacher(loss, task, family)]
    return int(place) in kept and not (name == "weight" and len(kept) == 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _around(value: float, times: float) -> Range:
    if isinstance(value, int):
        return Range(max(1, round(value / times)), round(value * times), log=True)
    return Range(value / times, value * times, log=True)


def _searched(desk: Desk, side: Side, recipe: Recipe, problem: Problem, storage: str) -> Search:
    """Make the trials that are still to be made."""
    search = Search(
        storage, _name(desk.task, side, recipe), side.space, recipe.tune, higher_is_better=desk.task.higher_is_better
    )

    def stop(model: Model, curve: Mapping[int, float]) -> bool:
        return search.behind(model.parameters, curve)

    while search.done < recipe.tune.trials:
        trial, settings = search.ask(side.given)
        desk.teller.say(f"trial {trial.number + 1} of {recipe.tune.trials}, {side.role}")
        lesson = side.taught(settings)
        if not _can_be(lesson):
            search.give_up(trial, failed=True)
            continue
        try:
            lived = teach(desk, lesson, desk.shelf, "students", stop)
            files = files_of(desk, lived, problem, recipe)
        except Stopped as stopped:
            desk.teller.say(f"  {stopped}")
            search.give_up(trial, failed=False)
        except (Diverged, ParityRefused) as failed:
            desk.teller.say(f"  {failed}")
            search.give_up(trial, failed=True)
        else:
            looked = lived.curves.get("validation", {})
            search.tell(trial, settings, files, {int(epoch): value for epoch, value in looked.items()})
    return search


def _name(task: Task, side: Side, recipe: Recipe) -> str:
    """Equal names promise that trials mean the same; their number does not matter to that."""
    return fingerprint(
        "study",
        1,
        role=side.role,
        lesson=side.taught({}).key(task),
        space={key: asdict(room) if isinstance(room, Range) else list(room) for key, room in side.space.items()},
        tune={key: value for key, value in asdict(recipe.tune).items() if key != "trials"},
        export=asdict(recipe.export),
    )


def _can_be(lesson: Lesson) -> bool:
    """Whether its settings go together, as a width and its number of attention heads must."""
    try:
        parts.make("models", lesson.family, dict(lesson.settings))
    except UserError:
        return False
    return True


def _lived(desk: Desk, side: Side, settings: Mapping[str, Any], seeds: Sequence[int]) -> list[Lived]:
    settings = {key: value for key, value in settings.items() if key in side.space}
    lesson = side.taught(settings)
    return [replace(teach(desk, replace(lesson, seed=s), desk.shelf, "students"), chosen=settings) for s in seeds]


def _holding(
    desk: Desk,
    side: Side,
    trials: Sequence[Sequence[Candidate]],
    pick: Callable[[Sequence[Sequence[Candidate]]], Candidate | None],
    seeds: Sequence[int],
) -> tuple[Candidate, list[Lived]] | None:
    """The best candidate whose training holds for every seed, trained with them; none where none does."""
    while (one := pick(trials)) is not None:
        try:
            return one, _lived(desk, side, one.settings, seeds)
        except Diverged as failed:
            desk.teller.say(f"  {side.role} with {dict(one.settings)}, best so far: {failed}; the next best is taken")
            trials = [files for files in trials if all(file.settings != one.settings for file in files)]
    return None


def files_of(desk: Desk, lived: Lived, problem: Problem, recipe: Recipe) -> tuple[Candidate, ...]:
    """What a training's exported files cost and are worth."""
    left = measured(desk, lived, problem, recipe.export, recipe.tune.budget.p95_ms or math.inf)
    return tuple(
        Candidate(
            settings=dict(lived.chosen),
            precision="int8" if precision == "int8" else "fp32",
            value=float(left.parity[precision]["headline"]),
            bytes=int(left.parity[precision]["bytes"]),
            parameters=lived.model.parameters,
            p95_ms=speed.p95_ms,
        )
        for precision, speed in left.speeds.items()
    )
