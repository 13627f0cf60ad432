"""All problems of a recipe, with their lines, before any work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from limbeck import parts
from limbeck.bind import (
    augmenter,
    check_option,
    fixed_settings,
    hard_name,
    maker,
    open_source,
    reads_attacked,
    roles_read,
    roles_said,
)
from limbeck.errors import LimbeckError, Mistake, RecipeError, UserError, few
from limbeck.found import Found, nearest
from limbeck.recipe import Data, Loss, Recipe, Student, Teacher, Training, reading, text_of
from limbeck.split import assign
from limbeck.table import check_labels, find_source, reader_for
from limbeck.task import Source, Task
from limbeck.weight import counts
from limbeck.yaml_lines import Lines, Place

LOOKED = (
    "its form", "parts and their settings", "files and columns", "roles", "splits", "losses", "optimisers",
    "the teacher as it will be built",
    "a dry batch of every student",
)  # fmt: skip
"""What is looked at, in order."""


def check(recipe: Recipe, lines: Lines, base: Path) -> list[Mistake]:
    """Find everything that would stop a run.

    Rows are opened (and converted to the cache the first time); where nothing else is wrong, one
    batch goes through every student. No model is trained and no teacher is asked.

    Args:
        recipe: of a form that is right already.
        lines: where the user typed what.
        base: the folder its paths count from.

    Returns:
        The mistakes, in the order of the recipe; none where it can run.
    """
    return _looked(Found(lines), recipe, base)


def opened(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe in which nothing is wrong.

    Where its form is wrong in places, the rest is looked at all the same, so that every problem is told at once.

    Args:
        path: the YAML file.
        changes: `key.in.dots=value` in YAML, applied first.

    Raises:
        RecipeError: every problem, with its line.
    """
    read = reading(text_of(path), source=str(path), changes=changes)
    mistakes = read.mistakes
    if read.recipe is not None:
        mistakes = _looked(Found(read.lines, list(mistakes), read.untold), read.recipe, path.parent)
    if read.recipe is None or mistakes:
        raise RecipeError(str(path), mistakes)
    return read.recipe


def _looked(found: Found, recipe: Recipe, base: Path) -> list[Mistake]:
    task: Task | None = found.tried(("task",), lambda: parts.get("tasks", recipe.task))
    _options(found, task, recipe)
    source = _data(found, task, recipe.data, base)
    _protocols(found, recipe, source, task.roles if task else ())
    _teacher(found, task, recipe, recipe.teacher, ("teacher",), base)
    _training(found, {}, recipe.training, ("training",))
    families = [_student(found, task, recipe, student, i) for i, student in enumerate(recipe.students)]
    _objective(found, task, recipe, families)
    for name, values in (("seeds", recipe.seeds), *((p.name, p.splits) for p in recipe.protocols)):
        if len(set(values)) < len(values):
            found.add(f"{name}: a seed stands twice; the same training twice proves nothing", "seeds")
    if not found.mistakes and task is not None and source is not None:
        from limbeck.trial import rehearse

        rehearse(recipe, base, found.tried)
    return sorted(found.mistakes, key=lambda mistake: mistake.line or 0)


def _options(found: Found, task: Task | None, recipe: Recipe) -> None:
    if task is None:
        return
    places: list[tuple[Place, dict[str, Any]]] = [(("options",), recipe.options)]
    places += [(("protocols", i, "options"), protocol.options) for i, protocol in enumerate(recipe.protocols)]
    for path, options in places:
        for key, value in options.items():
            if key not in task.options:
                found.unknown(f"task '{task.name}' has no option", key, list(task.options), *path, key)
            else:
                found.tried((*path, key), partial(check_option, task, key, value))


def _data(found: Found, task: Task | None, data: Data, base: Path) -> Source | None:
    source = _source(found, task, data, base, ("data",))
    if source is not None and task is not None:
        told = roles_said(data)
        meant = {nearest(role, roles_read(task)) for role in told if role not in roles_read(task)}
        lacking = [role for role in task.roles if role not in source.rows.roles]
        for role in lacking:
            if role not in {*told, *meant}:
                found.add(f"task '{task.name}' needs a column with the role '{role}'; name it here", "data", "roles")
        if not lacking and not task.takes_unlabelled:
            found.tried(("data", "roles", "label"), partial(check_labels, source.rows))
    for i, spec in enumerate(data.unlabelled):
        path: Place = ("data", "unlabelled", i)
        if "make" in spec:
            settings = {key: value for key, value in spec.items() if key != "make"}
            before = len(found.mistakes)
            found.part("data", str(spec["make"]), settings, path, (*path, "make"))
            if len(found.mistakes) == before:
                found.tried((*path, "make"), partial(maker, spec))
            continue
        try:
            more = Data.model_validate(spec)
        except ValidationError as wrong:
            found.refused(wrong, path)
        else:
            _source(found, task, more, base, path)
    if data.augment is not None:
        found.tried(("data", "augment"), partial(augmenter, data.augment))
    return source


def _source(found: Found, task: Task | None, data: Data, base: Path, path: Place) -> Source | None:
    for role in roles_said(data):
        if task is not None and role not in roles_read(task):
            found.unknown(f"task '{task.name}' has no use for the role", role, roles_read(task), *path, "roles", role)
    before = len(found.mistakes)
    if data.pack is not None:
        found.tried((*path, "pack"), lambda: parts.get("packs", str(data.pack)))
        reader: str | None = "pack"
        settings = {"pack": data.pack, **data.settings}
    else:
        settings = {"path": data.path, **data.settings}
        reader = data.format or found.tried((*path, "path"), lambda: reader_for(str(data.path), base))
        if reader is not None:
            found.tried((*path, "path"), lambda: find_source(str(data.path), base))
    if reader is not None:
        found.part("data", reader, settings, path, (*path, "format"))
    if len(found.mistakes) > before:
        return None
    try:
        return open_source(data, base)
    except LimbeckError as wrong:
        try:
            bare = open_source(_with_roles(data, {}), base)
        except LimbeckError:
            found.add(str(wrong), *path, "pack" if data.pack else "path")
            return None
        return _role_by_role(found, data, bare, base, path)


def _role_by_role(found: Found, data: Data, bare: Source, base: Path, path: Place) -> Source | None:
    """Rows with the roles that can be had; every other one is a mistake in its own place."""
    told, held = data.settings.get("roles", {}), {}
    for role, column in told.items() if isinstance(told, dict) else ():
        names, there = column if isinstance(column, list) else [column], bare.rows.names
        absent = [str(name) for name in names if name not in there]
        for name in absent:
            found.unknown(f"role '{role}' names a column that is not there,", name, there, *path, "roles", role)
        alone = partial(open_source, _with_roles(data, {role: column}), base)
        if not absent and found.tried((*path, "roles", role), alone) is not None:
            held[role] = column
    return found.tried((*path, "roles"), partial(open_source, _with_roles(data, held), base))


def _with_roles(data: Data, roles: Mapping[str, Any]) -> Data:
    return Data.model_validate({**data.model_dump(exclude={"roles"}), **({"roles": dict(roles)} if roles else {})})


def _protocols(found: Found, recipe: Recipe, source: Source | None, needed: Collection[str]) -> None:
    names = [protocol.name for protocol in recipe.protocols]
    whole = source is not None and {*needed, *roles_said(recipe.data)} <= set(source.rows.roles)
    for i, protocol in enumerate(recipe.protocols):
        if names.index(protocol.name) < i:
            found.add(f"two protocols are called '{protocol.name}'", "protocols", i, "name")
        if not protocol.splits:
            found.add("the list of splits is empty; name at least one seed", "protocols", i, "splits")
        elif source is not None and (whole or protocol.split.kind == "group"):  # others would trip over a role told
            split = replace(protocol.split, seed=protocol.splits[0])
            found.tried(("protocols", i, "split"), partial(assign, source.rows, split))


def _teacher(found: Found, task: Task | None, recipe: Recipe, teacher: Teacher, path: Place, base: Path) -> None:
    if teacher.model is not None:
        family = found.part("models", teacher.model, teacher.settings, path, (*path, "model"))
        _speaks(found, task, family, teacher.model, (*path, "model"))
        _choices(found, "models", teacher.model, teacher, recipe.training, (*path, "choose"))
        _training(found, teacher.training, recipe.training, (*path, "training"))
        return
    part = found.part("teachers", str(teacher.source), teacher.settings, path, (*path, "from"))
    for key in ("choose", "training"):
        if getattr(teacher, key):
            found.add("a teacher that is brought is not trained; this does nothing", *path, key)
    if teacher.joins and part is not None:
        for i, spec in enumerate(teacher.settings["members"]):
            place = (*path, "members", i)
            try:
                member = Teacher.model_validate(spec)
            except ValidationError as wrong:
                found.refused(wrong, place)
            else:
                _teacher(found, task, recipe, member, place, base)
    if hasattr(part, "find"):
        found.tried((*path, "path"), lambda: part.find(base))


def _student(found: Found, task: Task | None, recipe: Recipe, student: Student, i: int) -> Any:
    path: Place = ("students", i)
    family = found.part("models", student.model, student.settings, path, (*path, "model"))
    _speaks(found, task, family, student.model, (*path, "model"))
    _choices(found, "models", student.model, student, recipe.training, (*path, "choose"))
    _of_losses(found, task, recipe, student, student.choose, (*path, "choose"))
    _ranges(found, task, recipe, student, (*path, "tune"))
    _training(found, student.training, recipe.training, (*path, "training"))
    return family


def _speaks(found: Found, task: Task | None, family: Any, name: str, path: Place) -> None:
    if task is not None and family is not None and task.signal[0] not in family.kinds:
        said = ", ".join(family.kinds)
        found.add(f"'{name}' says {said}, and the task '{task.name}' asks for {task.signal[0]}", *path)


def _choices(found: Found, sort: str, name: str, chooser: Student | Teacher, training: Training, path: Place) -> None:
    try:
        part = parts.get(sort, name)
    except UserError:
        return  # told already
    allowed = parts.settings_of(part)
    for key, values in chooser.choose.items():
        place = (*path, key)
        if not values:
            found.add(f"'{key}' has no values to choose from", *place)
        if key.startswith("training."):
            for value in values:
                _training(found, {**chooser.training, key.removeprefix("training."): value}, training, place)
        elif key.startswith("objective.") and isinstance(chooser, Student):
            continue  # told by _of_losses
        elif key not in allowed:
            found.unknown(f"'{name}' has no setting", key, list(allowed), *place)
        else:
            for value in values:
                chosen = {**chooser.settings, key: value}
                found.tried(place, partial(parts.make, sort, name, chosen))


def _ranges(found: Found, task: Task | None, recipe: Recipe, student: Student, path: Place) -> None:
    """Both ends of every range that `limbeck tune` searches must be possible."""
    ends = {key: [room.low, room.high] for key, room in (student.tune or {}).items()}
    own = {key: values for key, values in ends.items() if not key.startswith("objective.")}
    _choices(found, "models", student.model, student.model_copy(update={"choose": own}), recipe.training, path)
    for key in ends:
        if key in student.choose:
            found.add(
                f"'{key}' has a list under choose; a search draws from the list or the range, not both", *path, key
            )
    _of_losses(found, task, recipe, student, ends, path)


def _of_losses(
    found: Found, task: Task | None, recipe: Recipe, student: Student, tried: Mapping[str, Sequence[Any]], path: Place
) -> None:
    """Settings of losses, by their place in the objective, with values that are tried."""
    losses = student.objective or recipe.objective
    for key in (key for key in tried if key.startswith("objective.")):
        _, number, name = [*key.split(".", 2), "", ""][:3]
        if not (number.isdecimal() and int(number) < len(losses)):
            found.add(f"losses are counted 0 to {len(losses) - 1}: objective.0.weight", *path, key)
        elif name == "weight" and not isinstance(losses[int(number)].weight, int | float):
            found.add("this weight moves, or is found on the way; only a number is tried or searched", *path, key)
        elif name == "temperature" and recipe.label.top is not None:
            found.add("knowledge cut to its best entries keeps tails of given temperatures only", *path, key)
        elif name == "weight":
            for value in tried[key]:
                said = {**losses[int(number)].model_dump(by_alias=True), "weight": value}
                found.tried((*path, key), partial(_weighed, said))
        elif task is not None:
            for value in tried[key]:
                found.tried((*path, key), partial(_with, losses[int(number)], task, student.model, {name: value}))


def _weighed(said: Mapping[str, Any]) -> None:
    """Make a loss of this weight."""
    try:
        Loss.model_validate(said)
    except ValidationError as wrong:
        raise UserError(f"{said['weight']!r} is no weight: a number of 0 or more was wanted") from wrong


def _with(loss: Loss, task: Task, model: str, changes: Mapping[str, Any]) -> None:
    """Make a loss with other settings."""
    name = hard_name(task, parts.get("models", model)) if loss.loss == "hard" else loss.loss
    parts.make("losses", name, {**fixed_settings(loss)[0], **changes})


def _training(found: Found, changes: Mapping[str, Any], training: Training, path: Place) -> None:
    try:
        told = Training.model_validate({**training.model_dump(), **changes})
    except ValidationError as wrong:
        found.refused(wrong, path, Training.model_fields)
        return
    import torch

    kind = getattr(torch.optim, told.optimizer, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        held = vars(torch.optim).items()
        known = [name for name, kind in held if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)]
        if changes or path == ("training",):
            found.unknown("torch.optim has no", told.optimizer, known, *path, "optimizer")


def _objective(found: Found, task: Task | None, recipe: Recipe, families: Sequence[Any]) -> None:
    """The losses of every student: the recipe's, looked at once, or its own."""
    if task is None:
        return
    cut = recipe.label.top is not None
    shared = _terms(found, task, recipe.objective, families[0], ("objective",), cut=cut)
    for i, (student, family) in enumerate(zip(recipe.students, families, strict=True)):
        own = student.objective
        terms = shared if own is None else _terms(found, task, own, family, ("students", i, "objective"), cut=cut)
        _company(found, recipe, student, family, ("students", i))
        if not hasattr(family, "fit"):
            continue
        for name, term in terms:
            if term is not None and not _has_target(term):
                found.add(
                    f"'{student.model}' is fitted, and loss '{name}' offers no soft target to fit it on", "students", i
                )


def _terms(
    found: Found, task: Task, losses: Sequence[Loss], family: Any, where: Place, *, cut: bool
) -> list[tuple[str, Any]]:
    terms = []
    for i, loss in enumerate(losses):
        path: Place = (*where, i)
        name = hard_name(task, family) if loss.loss == "hard" else loss.loss
        fixed = found.tried(path, partial(fixed_settings, loss))
        term = fixed and found.part("losses", name, fixed[0], path, (*path, "loss"))
        terms.append((loss.loss, term))
        settings, moving = fixed or ({}, {})
        if term and moving:
            ends = {**settings, **{key: schedule.end for key, schedule in moving.items()}}
            found.tried(path, partial(parts.make, "losses", name, ends))
        if cut and loss.source == "teacher" and "temperature" in moving and moving["temperature"].schedule != "step":
            found.add("knowledge cut to its best entries keeps tails of given temperatures only", *path, "temperature")
        if term and loss.sample_weight:
            found.tried((*path, "sample_weight"), partial(_sample_weight, loss.loss, term, task))
        if term and loss.source != "teacher" and not term.needs_teacher:
            found.add(f"'{loss.loss}' learns from nobody but the rows' labels; leave out from", *path, "from")
        if not counts(loss.weight):
            found.add("a loss of weight 0 does nothing; leave it out", *path, "weight")
    known = [term for _, term in terms if term is not None]
    if len(known) == len(terms) and not any(term.needs_teacher for term in known):
        found.add("no loss here needs the teacher, so nothing would be distilled; add one, such as kl", *where)
    return terms


def _company(found: Found, recipe: Recipe, student: Student, family: Any, path: Place) -> None:
    """Whoever a student learns from beside its teacher must be there."""
    sources = {loss.source for loss in student.objective or recipe.objective}
    others = sources - {"teacher"}
    if others and hasattr(family, "fit"):
        found.add(f"'{student.model}' is fitted in one go, so it has no {few(sorted(others))} to learn from", *path)
    elif "average" in sources and None in student.choose.get(
        "training.ema", [{**recipe.training.model_dump(), **student.training}.get("ema")]
    ):
        found.add("a loss learns from averaged weights; set training.ema, such as 0.999", *path)
    attacked = {**recipe.training.model_dump(), **student.training}.get("attack") is not None
    reads = any(reads_attacked(loss) for loss in student.objective or recipe.objective)
    if attacked and not reads and not hasattr(family, "fit"):
        found.add(
            "training.attack makes rows that no loss reads; add one that does, such as rslad, or give the attack to "
            "the teacher alone, under teacher.training",
            *path,
        )
    elif reads and not attacked:
        found.add("a loss reads attacked rows; set training.attack, such as {radius: 0.0314, steps: 10}", *path)
    from_teacher = (loss.loss for loss in student.objective or recipe.objective if loss.source == "teacher")
    learns = any(parts.get("losses", name).needs_teacher for name in from_teacher if name in parts.names("losses"))
    if student.generations > 1 and not learns:
        told = "no loss learns from a teacher, so no generation would learn from the one before"
        found.add(told, *path, "generations")
    if "peers" in student.model_fields_set and "peers" not in sources:
        found.add("no loss learns from peers; give one `from: peers`, or leave peers out", *path, "peers")


def _sample_weight(name: str, term: Any, task: Task) -> None:
    """Refuse to weigh rows by the teacher where there are none, no teacher, or no classes to be sure of."""
    from limbeck.objective import check_sample_weight

    check_sample_weight(name, term)
    if task.signal[1] != "logits":
        raise UserError(f"sample_weight reads a teacher's logits, and in '{task.name}' a teacher says {task.signal[1]}")


def _has_target(term: Any) -> bool:
    from limbeck.term import Term

    return type(term).target is not Term.target
