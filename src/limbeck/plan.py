"""What a run would do: every step, whether it is done already, and what it costs in time and disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from limbeck import card, parts
from limbeck.bind import Bound, bind, problem_of, taught_rows
from limbeck.cache import cache_folder
from limbeck.cost import Cost, judging_cost, labelling_cost, training_cost
from limbeck.errors import UserError, counted
from limbeck.fetch import find_pack
from limbeck.ledger import is_store
from limbeck.lesson import (
    Lesson,
    Lessons,
    baseline_lesson,
    combinations,
    lesson_of,
    teacher_lesson,
    titled,
    with_choice,
)
from limbeck.pretrained import folder_here
from limbeck.recipe import Data, Recipe, Student, Teacher
from limbeck.run import asked_of, kept_of, twin_of
from limbeck.shelf import Shelf
from limbeck.store import Store, chunks
from limbeck.task import Problem, Task
from limbeck.teach import Desk, Lived, choose, teach
from limbeck.trial import fresh
from limbeck.tutor import judged_key, tutor_of
from limbeck.types import Predictor, Rows
from limbeck.verbs.label import settings_for


@dataclass(frozen=True)
class Step:
    """One thing a run does.

    Args:
        kind: `fetch`, `baseline`, `teacher`, `label`, `student`, `scratch`, `evaluate` or `report`.
        name: what it is about, with protocol and split where there are several.
        done: whether a run would find it and skip it.
        seconds: expected; none where it is not known, or done.
        bytes: expected on disk.
        note: where the seconds come from.
    """

    kind: str
    name: str
    done: bool
    seconds: float | None = None
    bytes: int | None = None
    note: str = ""


def plan(recipe: Recipe, base: Path, out: Path) -> list[Step]:
    """Walk through a run without doing its work.

    Rows are opened and split, finished steps are looked up by fingerprint, and what is not done is
    timed on a few rows. What depends on an unfinished step is not done either. Nothing is fetched: of what
    needs a pack or weights that are not here, only the names are told.

    Args:
        recipe: checked.
        base: the folder its paths count from.
        out: the run's folder.
    """
    missing = away(recipe)
    fetches = [Step("fetch", name, False, None, None, note) for name, note in missing.items()]
    if any(_not_here(data) for data in _sources(recipe)):
        return [*fetches, *_names(recipe), _report(recipe, out, fetches)]
    bound = bind(recipe, base)
    desk = Desk(bound.task, base, Shelf(cache_folder()), Shelf(out / "steps"))
    several = sum(len(protocol.splits) for protocol in recipe.protocols) > 1
    steps = fetches
    costs: dict[str, Cost] = {}
    for protocol in recipe.protocols:
        for seed in protocol.splits:
            place = f"{protocol.name} {seed}: " if several else ""
            walk = _Walk(desk, bound, problem_of(bound, protocol, seed), place, costs)
            walk.through()
            steps += walk.steps
    return [*steps, _report(recipe, out, steps)]


def away(recipe: Recipe) -> dict[str, str]:
    """The packs and weights that a run would fetch first, each with a note on it."""
    packs = [str(data.pack) for data in _sources(recipe) if _not_here(data)]
    found = {name: f"{find_pack(name).megabytes:g} MB not here yet: {find_pack(name).note}" for name in packs}
    trained = [(str(one.model), one.settings) for one in _trained(recipe.teacher)]
    for family, settings in (*trained, *((one.model, one.settings) for one in recipe.students)):
        source = _weights_away(family, settings)
        if source is not None:
            pack = find_pack(source.removeprefix("pack:")) if source.startswith("pack:") else None
            found[source] = f"{pack.megabytes:g} MB of weights not here yet" if pack else "weights not here yet"
    return found


def _sources(recipe: Recipe) -> list[Data]:
    return [recipe.data, *(Data.model_validate(spec) for spec in recipe.data.unlabelled if "make" not in spec)]


def _not_here(data: Data) -> bool:
    """Whether rows are in a pack that would have to be fetched; a pack that is none is for `check` to tell of."""
    try:
        return data.pack is not None and not find_pack(data.pack).here
    except UserError:
        return False


def _weights_away(family: str, settings: Mapping[str, Any]) -> str | None:
    """The pretrained weights a family starts from, where they would have to be fetched."""
    try:
        source = getattr(parts.make("models", family, dict(settings)), "source", None)
    except UserError:
        return None
    return source if isinstance(source, str) and folder_here(source) is None else None


def _trained(teacher: Teacher) -> list[Teacher]:
    """The teacher, or those of its members, that are trained here."""
    if teacher.model is not None:
        return [teacher]
    return [one for member in teacher.members for one in _trained(member)]


def _names(recipe: Recipe) -> Iterator[Step]:
    """The steps of a run whose rows nobody has seen."""
    task: Task = parts.get("tasks", recipe.task)
    splits = [(protocol.name, seed) for protocol in recipe.protocols for seed in protocol.splits]
    for protocol, seed in splits:
        named = [("baseline", f"baseline {name}") for name in task.baselines]
        for teacher in _trained(recipe.teacher):
            named += [("teacher", name) for name in _titles(f"teacher {teacher.title}", teacher.choose, (0,))]
        named.append(("label", "all rows"))
        for student in recipe.students:
            for kind, twin in (("student", ""), ("scratch", " without a teacher")):
                named += [(kind, name) for name in _titles(student.title, student.choose, recipe.seeds, twin)]
        place = f"{protocol} {seed}: " if len(splits) > 1 else ""
        for kind, name in (*named, ("evaluate", "everybody, test rows")):
            yield Step(kind, f"{place}{name}", False, None, None, "rows unknown")


def _titles(title: str, choices: Mapping[str, list[Any]], seeds: Sequence[int], twin: str = "") -> list[str]:
    """Every training of one name: the choices are tried at the first seed, the best of them at the others."""
    tried = [f"{titled(title, chosen)}{twin}" for chosen in combinations(choices)]
    return [*tried, *(f"{title}{twin}, seed {seed}" for seed in seeds[1:])]


def _report(recipe: Recipe, out: Path, steps: list[Step]) -> Step:
    """Export, parity, speed and pages."""
    same = (out / "recipe.yaml").is_file() and (out / "recipe.yaml").read_text(encoding="utf-8") == card.recipe_text(
        recipe
    )
    file = out / "report.json"
    if not (same and file.is_file()):
        return Step("report", "export and pages", False, None, None, "known once a run did it")
    done = all(step.done for step in steps)
    before = json.loads(file.read_text(encoding="utf-8"))["seconds"].get("report")
    seconds = None if done or before is None else float(before)
    return Step("report", "export and pages", done, seconds, None, "" if done else "as long as it took before")


@dataclass
class _Walk:
    """One split of one protocol."""

    desk: Desk
    bound: Bound
    problem: Problem
    place: str
    costs: dict[str, Cost]
    steps: list[Step] = field(default_factory=list)
    models: list[Predictor | None] = field(default_factory=list)
    judging: list[float | None] = field(default_factory=list)  # of the models that are none

    def through(self) -> None:
        recipe, problem = self.bound.recipe, self.problem
        for name in self.desk.task.baselines:
            lesson = baseline_lesson(name, problem)
            self._train("baseline", partial(with_choice, lesson), self.desk.cache, "baselines", {}, (0,))
        tutor = self._tutor(recipe.teacher)
        store = self._label(recipe, tutor)
        rows = taught_rows(problem)
        for student in recipe.students:
            lesson = lesson_of(recipe, student, problem, rows, store)
            students = self.desk.shelf
            taught, twin = partial(with_choice, lesson), twin_of(self.desk.task, lesson, problem.train)
            chosen = self._train("student", taught, students, "students", student.choose, recipe.seeds, teacher=True)
            self._generations(taught, student, chosen)
            self._train("scratch", twin, students, "students", student.choose, recipe.seeds)
        self._evaluate()

    def _train(
        self, kind: str, taught: Lessons, shelf: Shelf, sort: str, choices: Mapping[str, list[Any]],
        seeds: tuple[int, ...], *, teacher: bool = False,
    ) -> Mapping[str, Any]:  # fmt: skip
        """The steps of choosing on the first seed, and of training the others with what was chosen, as far as known."""
        lesson = taught({})
        source = _weights_away(lesson.family, lesson.settings)
        if source is not None:
            every = [*(taught(chosen).title for chosen in combinations(choices))]
            every += [f"{lesson.title}, seed {seed}" for seed in seeds[1:]]
            self.steps += [Step(kind, f"{self.place}{name}", False, None, None, f"needs {source}") for name in every]
            for _ in seeds:
                self._judges(None, None)
            return {}
        ready = not teacher or lesson.knowledge is not None
        first = [taught(chosen) for chosen in combinations(choices)]
        done = [ready and shelf.has(sort, one.key(self.desk.task)) for one in first]
        costs = [
            self._step(kind, one, there, teacher=teacher, earlier=shelf.root / sort)
            for one, there in zip(first, done, strict=True)
        ]
        best = choose(self.desk, taught, shelf, sort, choices) if all(done) else None
        self._judges(best, next((cost for cost in costs if cost is not None), None))
        for seed in seeds[1:]:
            again = replace(taught(best.chosen if best else {}), seed=seed)
            there = best is not None and shelf.has(sort, again.key(self.desk.task))
            named = replace(again, title=f"{again.title}, seed {seed}")
            cost = self._step(kind, named, there, teacher=teacher, earlier=shelf.root / sort)
            self._judges(teach(self.desk, again, shelf, sort) if there else None, cost)
        return best.chosen if best else {}

    def _generations(self, taught: Lessons, student: Student, chosen: Mapping[str, Any]) -> None:
        """The trainings after the first, each known to be done where the one before is at hand."""
        seeds, shelf = self.bound.recipe.seeds, self.desk.shelf
        for place, seed in enumerate(seeds, len(self.models) - len(seeds)):
            for generation in range(2, student.generations + 1):
                before = self.models[place]
                store = self._complete(before) if before is not None else None
                again = replace(taught(chosen), seed=seed, knowledge=store, teacher=before)
                there = store is not None and shelf.has("students", again.key(self.desk.task))
                named = replace(again, title=f"{again.title}, generation {generation}, seed {seed}")
                cost = self._step("student", named, there, teacher=True, earlier=shelf.root / "students")
                self.models[place] = teach(self.desk, again, shelf, "students").model if there else None
                if before is not None and not there:
                    self.judging.append(None if cost is None else cost.judging)

    def _complete(self, predictor: Predictor) -> Store | None:
        """What a student said of the rows, where it was asked about all of them."""
        rows, recipe, task = taught_rows(self.problem), self.bound.recipe, self.bound.task
        settings, _ = settings_for(asked_of(recipe, task, predictor), rows, kept_of(recipe, task))
        folder = self.desk.cache.root / "stores" / settings.fingerprint
        store = Store.open(folder) if is_store(folder) else None
        whole = store is not None and store.complete and not store.missing(chunks(rows.key, size=4096))
        return store if whole else None

    def _judges(self, lived: Lived | None, cost: Cost | None) -> None:
        """A model that will be judged: at hand, or known by what it costs."""
        self.models.append(None if lived is None else lived.model)
        if lived is None:
            self.judging.append(None if cost is None else cost.judging)

    def _step(self, kind: str, lesson: Lesson, done: bool, *, teacher: bool, earlier: Path) -> Cost | None:
        """One step of training; its cost where it is not done."""
        name = f"{self.place}{lesson.title}"
        if done:
            self.steps.append(Step(kind, name, True))
            return None
        cost = self._cost(lesson, teacher=teacher, earlier=earlier)
        self.steps.append(Step(kind, name, False, cost.seconds, cost.bytes, cost.note))
        return cost

    def _cost(self, lesson: Lesson, *, teacher: bool, earlier: Path) -> Cost:
        """Measured once for all seeds and splits of a lesson."""
        told = [lesson.family, dict(lesson.settings), lesson.training.digest(), len(lesson.rows), teacher]
        key = json.dumps(told, sort_keys=True, default=str)
        if key not in self.costs:
            folders = sorted(earlier.iterdir()) if earlier.is_dir() else []
            recipe, task = self.bound.recipe, self.desk.task
            kept, members = kept_of(recipe, self.bound.task), recipe.teacher.apart
            self.costs[key] = training_cost(task, lesson, teacher=teacher, kept=kept, earlier=folders, members=members)
        return self.costs[key]

    def _tutor(self, teacher: Teacher) -> Predictor | None:
        """The teacher, where all its trainings are done; steps for those that are not."""
        models, judging = len(self.models), len(self.judging)
        for member in _trained(teacher):
            lesson = teacher_lesson(self.bound.recipe, member, self.problem)
            self._train(
                "teacher", partial(with_choice, lesson), self.desk.cache, "teachers", member.choose, (member.seed,)
            )
        trained, told = self.models[models:], self.judging[judging:]
        del self.models[models:], self.judging[judging:]  # its members are judged as one
        if None in trained or _asked(teacher):
            self.models.append(None)
            known = [each for each in told if each is not None]
            self.judging.append(sum(known) if len(known) == len(trained) > 0 else None)
            return None
        predictor = tutor_of(self.desk, self.bound.recipe, teacher, self.problem).predictor
        self.models.append(predictor)
        return predictor

    def _label(self, recipe: Recipe, tutor: Predictor | None) -> Store | None:
        """The store, be it still empty, where the teacher is at hand."""
        rows = taught_rows(self.problem)
        name = f"{self.place}{counted(len(rows), 'row')}"
        kept = kept_of(recipe, self.bound.task)
        if tutor is None:
            cost = self._unasked(recipe, rows)
            self.steps.append(Step("label", name, False, cost.seconds, cost.bytes, cost.note))
            return None
        tutor = asked_of(recipe, self.bound.task, tutor)
        settings, _ = settings_for(tutor, rows, kept)
        folder = self.desk.cache.root / "stores" / settings.fingerprint
        store = Store.open(folder) if is_store(folder) else Store(folder, settings, {})
        missing = store.missing(chunks(rows.key, size=4096)) if store.records else [rows]
        if not missing and store.complete:
            self.steps.append(Step("label", name, True))
            return store
        todo = sum(len(chunk) for chunk in missing)
        cost = labelling_cost(tutor, rows, batch=recipe.teacher.batch, kept=kept)
        share = todo / len(rows)
        seconds, size = (cost.seconds or 0.0) * share, round((cost.bytes or 0) * share)
        self.steps.append(Step("label", name, False, seconds, size, cost.note))
        return store

    def _unasked(self, recipe: Recipe, rows: Rows) -> Cost:
        """An untrained teacher answers as fast as a trained one."""
        if recipe.teacher.model is None:
            return Cost(None, None, None, "known once the teacher is at hand")
        source = _weights_away(recipe.teacher.model, recipe.teacher.settings)
        if source is not None:
            return Cost(None, None, None, f"needs {source}")
        lesson = teacher_lesson(recipe, recipe.teacher, self.problem)
        made = fresh(self.desk.task, replace(lesson, rows=lesson.rows.slice(0, 2)))
        return labelling_cost(made.model, rows, batch=recipe.teacher.batch, kept=kept_of(recipe, self.bound.task))

    def _evaluate(self) -> None:
        test, task = self.problem.test, self.desk.task
        name = f"{self.place}{counted(len(self.models), 'model')}, {counted(len(test), 'test row')}"
        wanted = [None if m is None else judged_key(task, m, test, self.problem) for m in self.models]
        done = all(key is not None and self.desk.shelf.has("judged", key) for key in wanted)
        if done:
            self.steps.append(Step("evaluate", name, True))
            return
        known = [judging_cost(task, m, self.problem) for m in self.models if m is not None]
        known += [each for each in self.judging if each is not None]
        seconds = sum(known) * len(test) if len(known) == len(self.models) else None
        self.steps.append(Step("evaluate", name, False, seconds, None, "some rows timed" if seconds else ""))


def _asked(teacher: Teacher) -> bool:
    """Whether a service answers, which may cost money: a plan does not ask it."""
    own = teacher.source is not None and getattr(parts.get("teachers", teacher.source), "asks_a_service", False)
    return own or any(_asked(member) for member in teacher.members)
