"""The main job as a straight line: rows, teacher, gate, store, students and twins, verdict, artifact."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from limbeck import atomic, card, parts
from limbeck.bind import Bound, alone, bind, knowledge_of, objective_of, problem_of, protocol_of, taught_rows
from limbeck.cache import cache_folder
from limbeck.compose import compose, disagreements, write
from limbeck.errors import UserError, few
from limbeck.forgetting import note_run, outdated
from limbeck.knowledge import Knowledge
from limbeck.ledger import read_origins
from limbeck.lesson import Lesson, Lessons, lesson_of, with_choice
from limbeck.model import Model
from limbeck.objective import Objective
from limbeck.outcome import Entry, Outcome
from limbeck.progress import Teller
from limbeck.recipe import Protocol, Recipe, Student, read
from limbeck.report import Gate, Report, plain
from limbeck.shelf import Shelf
from limbeck.store import Store
from limbeck.sweep import sweep
from limbeck.task import Problem, Task
from limbeck.teach import Desk, Lived, choose, teach
from limbeck.tutor import Trivial, Tutor, gate, judged, trivial_of, tutor_of
from limbeck.types import Predictor, Rows, fingerprint
from limbeck.verbs.label import Labelling, label, seconds_of

Flow = Literal["run", "tune"]


@dataclass
class Split:
    """What one protocol found on one split."""

    problem: Problem
    trivial: Trivial
    tutor: Tutor
    gate: Gate
    store: Store
    students: dict[str, list[Lived]] = field(default_factory=dict)
    twins: dict[str, list[Lived]] = field(default_factory=dict)


def run(recipe: Recipe, *, base: Path, out: Path, teller: Teller | None = None) -> Report:
    """Do everything a recipe says; finished steps are found and skipped.

    Args:
        recipe: as read.
        base: the folder its paths count from.
        out: where the report, the artifacts and the students go.
        teller: where progress goes.

    Returns:
        The report, which `out` holds as JSON, Markdown and a page.

    Raises:
        UserError: rows, settings or files that do not fit.
        GateRefused: the teacher does not beat the trivial baselines.
        ParityRefused: the exported student does not answer as the student does.
        Diverged: a training does not hold.
    """
    desk, bound = begin(recipe, base, out, teller, flow="run")
    outcomes = []
    for protocol in recipe.protocols:
        splits = [descended(desk, recipe, labelled_split(desk, bound, protocol, seed)) for seed in protocol.splits]
        outcomes.append(outcome_of(desk, recipe, protocol, splits))
    return reported(desk, bound, outcomes, out)


def reported(desk: Desk, bound: Bound, outcomes: Sequence[Outcome], out: Path) -> Report:
    """Compare what was found, export the students, and write the report."""
    with timed(desk, "report"), desk.teller.bar("comparing and exporting"):
        start, before = time.monotonic(), desk.shelf.made
        found = compose(desk, outcomes, about=card.about(bound), settings=bound.recipe.export, out=out)
        rows = disagreements(desk, outcomes[0], outcomes[0].students[0])
        key = fingerprint("report", 1, said=plain(asdict(found)))
        desk.shelf.took("report", key, time.monotonic() - start - (desk.shelf.made - before))
    found = replace(found, seconds=dict(desk.seconds))
    write(found, rows, out)
    for left in outdated(out):  # what this report has was made anew without them
        desk.teller.say(f"  {left} is removed: it learnt from people who asked to be forgotten")
        shutil.rmtree(left)
    return found


def labelled(recipe: Recipe, *, base: Path, out: Path, teller: Teller | None = None) -> list[Split]:
    """The same as far as the stores: a split of every protocol, with its teacher and its knowledge."""
    desk, bound = begin(recipe, base, out, teller)
    return [labelled_split(desk, bound, protocol, seed) for protocol in recipe.protocols for seed in protocol.splits]


def distilled(recipe: Recipe, *, base: Path, out: Path, teller: Teller | None = None) -> list[Split]:
    """The same as far as the students and their twins."""
    desk, bound = begin(recipe, base, out, teller)
    pairs = [(protocol, seed) for protocol in recipe.protocols for seed in protocol.splits]
    return [descended(desk, recipe, labelled_split(desk, bound, *pair)) for pair in pairs]


def relabel(folder: Path, teller: Teller | None = None) -> Store:
    """Label again what a store lacks, by the recipes it keeps: one for every set of rows it was asked for.

    Raises:
        UserError: it keeps none, or one that no longer leads to the same teacher and rows.
    """
    store = Store.open(folder)
    for recipe, origin in recipes_of(folder):
        store = _relabelled(folder, recipe, origin, teller or Teller())
    store.finish(every=True)
    return store


def recipes_of(folder: Path) -> list[tuple[Recipe, Mapping[str, Any]]]:
    """The recipes by which a store can be labelled again, each with its origin.

    Raises:
        UserError: it keeps none, or one that is no recipe of this Limbeck.
    """
    found: list[tuple[Recipe, Mapping[str, Any]]] = []
    try:
        found = [(Recipe.model_validate(origin["recipe"]), origin) for origin in read_origins(folder)]
    except (KeyError, ValidationError):
        found = []
    if not found:
        raise UserError(f"{folder} does not say what it was made from; run its recipe again, or delete the store")
    return found


def _relabelled(folder: Path, recipe: Recipe, origin: Mapping[str, Any], teller: Teller) -> Store:
    base = Path(origin["base"])
    bound = bind(recipe, base)
    shelf = Shelf(cache_folder(), teller)
    desk = Desk(bound.task, base, shelf, shelf, teller)
    protocol = protocol_of(recipe, origin["protocol"])
    problem = problem_of(bound, protocol, origin["split"])
    tutor = tutor_of(desk, recipe, recipe.teacher, problem)
    store = _labelled(desk, bound, (protocol, origin["split"]), tutor, problem, root=folder.parent)
    if store.folder.resolve() != folder.resolve():
        raise UserError(
            f"{folder}: its recipe now leads to other knowledge ({store.folder.name}), as its rows or its teacher "
            "changed; delete the store, or bring back what it was made from"
        )
    return store


def origin_of(out: Path, changes: Sequence[str] = ()) -> tuple[Recipe, Path]:
    """The recipe of a run's folder, and the folder its paths count from.

    Raises:
        RecipeError: changes that do not fit.
    """
    base = json.loads((out / "run.json").read_text(encoding="utf-8"))["base"]
    return read(out / "recipe.yaml", changes)[0], Path(base)


def flow_of(out: Path) -> Flow | None:
    """What makes the report and the artifacts of a folder; none where nothing has yet."""
    file = out / "run.json"
    said: Flow | None = json.loads(file.read_text(encoding="utf-8")).get("flow") if file.is_file() else None
    return said


def begin(recipe: Recipe, base: Path, out: Path, teller: Teller | None, flow: Flow | None = None) -> tuple[Desk, Bound]:
    """Open the rows, and a folder that says what is run in it.

    Args:
        recipe: as read.
        base: the folder its paths count from.
        out: the folder.
        teller: where progress goes.
        flow: what will make its report; none for steps that make none.
    """
    teller = teller or Teller()
    atomic.check_folder(out)
    with teller.bar("opening rows"):
        bound = bind(recipe, base)
    _check_owner(recipe, out, flow)
    atomic.replace(out / "recipe.yaml", card.recipe_text(recipe).encode())
    said = {"base": str(base.resolve()), "flow": flow or flow_of(out)}
    atomic.replace(out / "run.json", json.dumps(said).encode())
    note_run(out)
    sweep([out])
    return Desk(bound.task, base, Shelf(cache_folder(), teller), Shelf(out / "steps", teller), teller), bound


def _check_owner(recipe: Recipe, out: Path, flow: Flow | None = None) -> None:
    """A folder keeps to one question about one source of rows: another's report and artifacts are not to be mixed in.

    Raises:
        UserError: another recipe ran here, or `limbeck tune` where now `limbeck run` would, or the other way round.
    """
    before = flow_of(out)
    if flow and before and flow != before:
        raise UserError(
            f"{out} holds what `limbeck {before}` made, whose report and artifacts `limbeck {flow}` would replace; "
            "name another folder with --out, or delete that one"
        )
    if not ((out / "recipe.yaml").is_file() and (out / "run.json").is_file()):
        return
    was, now = ((one.task, one.data.pack or str(one.data.path)) for one in (origin_of(out)[0], recipe))
    if was != now:
        raise UserError(
            f"{out} holds a run of '{was[0]}' on {was[1]}, and this is '{now[0]}' on {now[1]}; "
            "name another folder with --out, or delete that one"
        )


def labelled_split(desk: Desk, bound: Bound, protocol: Protocol, seed: int) -> Split:
    """A split with its baselines, its teacher, and what that says of the rows."""
    recipe = bound.recipe
    desk.teller.say(f"{protocol.name}, split {seed}")
    with timed(desk, "rows"), desk.teller.bar("splitting rows"):
        start = time.monotonic()
        problem = problem_of(bound, protocol, seed)
        desk.shelf.took("rows", problem.fingerprint, time.monotonic() - start)
    with timed(desk, "baselines"):
        trivial = trivial_of(desk, problem)
    with timed(desk, "teacher"):
        tutor = tutor_of(desk, recipe, recipe.teacher, problem)
        passed = gate(desk, tutor, trivial, problem, allow_weak=recipe.teacher.allow_weak)
    rows = taught_rows(problem)
    store = _labelled(desk, bound, (protocol, seed), tutor, problem, root=desk.cache.root / "stores")
    desk.seconds["label"] = desk.seconds.get("label", 0.0) + seconds_of(store, rows)
    return Split(problem, trivial, tutor, passed, store)


def descended(desk: Desk, recipe: Recipe, split: Split) -> Split:
    """The split with its students and their twins."""
    problem, store = split.problem, split.store
    for student in recipe.students:
        with timed(desk, "distill"):
            lesson = lesson_of(recipe, student, problem, taught_rows(problem), store, split.tutor.predictor)
            first = _seeds(desk, partial(with_choice, lesson), student, recipe.seeds)
            split.students[student.title] = [
                _descendant(desk, recipe, student, replace(lesson, seed=seed), lived)
                for seed, lived in zip(recipe.seeds, first, strict=True)
            ]
        with timed(desk, "scratch"):
            twin = twin_of(desk.task, lesson, problem.train)
            split.twins[student.title] = _seeds(desk, twin, student, recipe.seeds)
    return split


def _descendant(desk: Desk, recipe: Recipe, student: Student, lesson: Lesson, lived: Lived) -> Lived:
    """The last of a student's generations: each is taught by what the one before it says of the same rows.

    Source: Furlanello et al. 2018 (born-again networks).
    """
    origin = {"source": lesson.problem.train.source}
    how = Labelling(kept_of(recipe, desk.task), recipe.teacher.batch, origin, desk.teller)
    chosen = lived.chosen
    for generation in range(2, student.generations + 1):
        before = asked_of(recipe, desk.task, lived.model)
        store = label(before, lesson.rows, desk.cache.root / "stores", how)
        taught = with_choice(replace(lesson, knowledge=store, teacher=lived.model), chosen)
        taught = replace(taught, title=f"{taught.title}, generation {generation}")
        lived = teach(desk, taught, desk.shelf, "students")
    return replace(lived, chosen=chosen)


def _labelled(
    desk: Desk, bound: Bound, split: tuple[Protocol, int], tutor: Tutor, problem: Problem, *, root: Path
) -> Store:
    recipe, (protocol, seed) = bound.recipe, split
    origin = {
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "base": str(bound.base.resolve()),
        "protocol": protocol.name,
        "split": seed,
        "source": problem.train.source,
    }
    how = Labelling(kept_of(recipe, bound.task), recipe.teacher.batch, origin, desk.teller)
    return label(asked_of(recipe, bound.task, tutor.predictor), taught_rows(problem), root, how)


def asked_of(recipe: Recipe, task: Task, predictor: Predictor) -> Predictor:
    """The teacher as it is labelled with: it also says the states that the students' losses read.

    Raises:
        UserError: a loss reads states of a teacher that cannot be tapped.
    """
    taps = list(dict.fromkeys(path for objective in _objectives(recipe, task) for path in objective.teacher_taps))
    if not taps:
        return predictor
    if not isinstance(predictor, Model):
        raise UserError(
            f"a loss reads the teacher's inner states ({few(taps)}), and '{recipe.teacher.title}' was brought or "
            "joined from several; only a teacher that is trained here can be tapped"
        )
    return predictor.tapped(taps)


def kept_of(recipe: Recipe, task: Task) -> Knowledge:
    """What the recipe's store keeps, for the losses of all its students."""
    needed = {temperature for objective in _objectives(recipe, task) for temperature in objective.temperatures}
    return knowledge_of(recipe, needed)


def _objectives(recipe: Recipe, task: Task) -> list[Objective]:
    """Of every student: the recipe's, or its own."""
    return [
        objective_of(student.objective or recipe.objective, task, parts.make("models", student.model, student.settings))
        for student in recipe.students
    ]


def twin_of(task: Task, lesson: Lesson, labelled: Rows) -> Lessons:
    """The honest twin of a student at any settings: no teacher, the labelled rows only, and as many steps."""
    return lambda chosen: _alone(task, with_choice(lesson, chosen), labelled)


def _alone(task: Task, lesson: Lesson, labelled: Rows) -> Lesson:
    training = lesson.training
    if len(labelled) != len(lesson.rows):
        size = training.batch_size
        budget = training.epochs * -(-len(lesson.rows) // size)
        budget = min(budget, training.steps or budget)
        epochs = -(-budget // -(-len(labelled) // size))
        # Its epochs are shorter, so looks and patience count as many steps as the student's do.
        longer = max(1, round(-(-len(lesson.rows) // size) / -(-len(labelled) // size)))
        patience = training.patience and training.patience * longer
        looks = {"check_every": training.check_every * longer, "patience": patience}
        training = training.model_copy(update={"steps": budget, "epochs": epochs, **looks})
    title = f"{lesson.title} without a teacher"
    family = parts.make("models", lesson.family, dict(lesson.settings))
    losses = alone(lesson.losses, task, family)
    return replace(lesson, title=title, losses=losses, rows=labelled, knowledge=None, training=training, teacher=None)


def _seeds(desk: Desk, taught: Lessons, student: Student, seeds: tuple[int, ...]) -> list[Lived]:
    """Choose on the first seed, then train the others with what was chosen."""
    first = choose(desk, taught, desk.shelf, "students", student.choose)
    rest = [teach(desk, replace(taught(first.chosen), seed=seed), desk.shelf, "students") for seed in seeds[1:]]
    return [first, *(replace(lived, chosen=first.chosen) for lived in rest)]


def outcome_of(desk: Desk, recipe: Recipe, protocol: Protocol, splits: list[Split]) -> Outcome:
    """Judge everybody on test rows, for the first and last time."""

    def entry(role: str, name: str, lived: list[list[Lived]]) -> Entry:
        pairs = [(split, one) for split, some in zip(splits, lived, strict=True) for one in some]
        test = [judged(desk, one.model, split.problem.test, split.problem) for split, one in pairs]
        return Entry(role, name, test, [one for _, one in pairs])

    with timed(desk, "evaluate"):
        entries = [entry("trivial", n, [[s.trivial.lived[n]] for s in splits]) for n in desk.task.baselines]
        tutors = [split.tutor for split in splits]
        told = [judged(desk, s.tutor.predictor, s.problem.test, s.problem) for s in splits]
        entries.append(Entry("teacher", tutors[0].title, told, [lived for t in tutors for lived in t.lived], tutors[0]))
        for title in splits[0].students:
            entries.append(entry("student", title, [split.students[title] for split in splits]))
            entries.append(entry("scratch", title, [split.twins[title] for split in splits]))
    # A gate that refused anywhere is the one to tell of.
    gate_ = next((s.gate for s in splits if not s.gate.passed), splits[0].gate)
    stores = [s.store for s in splits]
    return Outcome(protocol, [s.problem for s in splits], entries, gate_, stores, recipe.seeds)


@contextmanager
def timed(desk: Desk, step: str) -> Iterator[None]:
    """Count under a part of the run what its steps took when they were really done."""
    before = desk.spent
    yield
    desk.seconds[step] = desk.seconds.get(step, 0.0) + desk.spent - before
