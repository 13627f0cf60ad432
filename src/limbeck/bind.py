"""A recipe's words to objects: rows, problems, objectives, teachers that are brought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from limbeck import ledger, parts, split, table
from limbeck.cache import cache_folder
from limbeck.chunk import persons
from limbeck.complaint import complaint
from limbeck.errors import UserError, few
from limbeck.knowledge import Knowledge
from limbeck.recipe import Data, Loss, Protocol, Recipe
from limbeck.table import check_labels, reader_for
from limbeck.task import Problem, Source, Task
from limbeck.threat import ATTACKED
from limbeck.types import Array, Rows, fingerprint
from limbeck.weight import Schedule, Weight, counts, nominal, scaled

if TYPE_CHECKING:
    from limbeck.objective import Objective


@dataclass(frozen=True)
class Bound:
    """A recipe with its rows at hand.

    Args:
        recipe: as read.
        base: the folder its paths count from.
        task: the part it names.
        source: the main rows.
        others: rows from elsewhere that may feed distillation.
    """

    recipe: Recipe
    base: Path
    task: Task
    source: Source
    others: tuple[Rows, ...]


def bind(recipe: Recipe, base: Path) -> Bound:
    """Open what the recipe names.

    Raises:
        UserError: rows that cannot be read, or lack a role of the task.
    """
    task: Task = parts.get("tasks", recipe.task)
    told = [recipe.data, *(Data.model_validate(spec) for spec in recipe.data.unlabelled if "make" not in spec)]
    for data in told:
        unread = [role for role in roles_said(data) if role not in roles_read(task)]
        if unread:
            known = ", ".join(roles_read(task))
            raise UserError(f"task '{task.name}' has no use for the role {few(unread)}; it reads: {known}")
    source = open_source(recipe.data, base)
    source = replace(source, rows=remembered(source.rows))
    for role in task.roles:
        source.rows.role(role)
    if not task.takes_unlabelled:
        check_labels(source.rows)
    others = [remembered(open_source(data, base).rows) for data in told[1:]]
    return Bound(recipe, base, task, source, tuple(others))


def roles_read(task: Task) -> tuple[str, ...]:
    """The roles that mean something to a task, to some split, or to every source of rows."""
    return tuple(sorted({*task.roles, *task.optional_roles, *split.ROLES, *table.ROLES}))


def roles_said(data: Data) -> tuple[str, ...]:
    """The roles that a recipe itself gives; those a pack brings may be more than its task needs."""
    said = data.settings.get("roles", {})
    return tuple(map(str, said)) if isinstance(said, dict) else ()


def remembered(rows: Rows) -> Rows:
    """Rows without those of people who asked to be forgotten, for whom nothing is made ever again."""
    root = cache_folder() / "stores"
    if "user" not in rows.roles or not ledger.forgets(root):
        return rows
    person = persons(list(rows.column(rows.role("user"))))
    kept = np.flatnonzero(~np.isin(person, ledger.read_forgotten(root)))
    if not len(kept):
        raise UserError("every person of these rows asked to be forgotten; there is nothing left to learn from")
    return rows if len(kept) == len(rows) else rows.take(kept)


def open_source(data: Data, base: Path) -> Source:
    """The rows of a pack or a file."""
    settings = data.settings
    if data.pack is not None:
        reader, settings = "pack", {"pack": data.pack, **settings}
    else:
        reader, settings = data.format or reader_for(str(data.path), base), {"path": data.path, **settings}
    source: Source = parts.make("data", reader, settings).read(base)
    return source


def options_of(task: Task, recipe: Recipe, protocol: Protocol) -> dict[str, Any]:
    """The task's options: its defaults, the recipe's, the protocol's.

    Raises:
        UserError: an option the task does not know, or one that is not true or false where that is wanted.
    """
    given = {**recipe.options, **protocol.options}
    unknown = [name for name in given if name not in task.options]
    if unknown:
        known = ", ".join(task.options) or "none"
        raise UserError(f"task '{task.name}' has no option {', '.join(map(repr, unknown))}; it knows: {known}")
    for name, value in given.items():
        check_option(task, name, value)
    return {**task.options, **given}


def check_option(task: Task, name: str, value: Any) -> None:
    """Refuse a word where the task wants true or false: YAML's `no` is one, and would count as true."""
    if isinstance(task.options[name], bool) and not isinstance(value, bool):
        raise UserError(f"task '{task.name}': option '{name}' is {value!r}; true or false was wanted")


def protocol_of(recipe: Recipe, name: str | None = None) -> Protocol:
    """The protocol of this name, or the first.

    Raises:
        UserError: the recipe has none of this name.
    """
    found = [protocol for protocol in recipe.protocols if name in (None, protocol.name)]
    if not found:
        raise UserError(f"no protocol '{name}'; the recipe has: {', '.join(p.name for p in recipe.protocols)}")
    return found[0]


def problem_of(bound: Bound, protocol: Protocol, seed: int) -> Problem:
    """The task's problem for one protocol and split seed, unlabelled rows included."""
    part = split.assign(bound.source.rows, replace(protocol.split, seed=seed))
    options = options_of(bound.task, bound.recipe, protocol)
    problem = bound.task.prepare(bound.source, part, options)
    for name in ("train", "validation", "test"):
        if not len(getattr(problem, name)):
            raise UserError(
                f"protocol '{protocol.name}': no row is left for {name}; give data more rows or other shares"
            )
    given = problem.train
    problem = _augmented(bound.recipe, problem)
    # As training rows' columns have it, and as it was read: what tells rows apart is asked of the latter.
    others = [(rows, rows) for rows in (problem.unlabelled,) if rows is not None]
    others += [(_like(rows, problem.train), rows) for rows in bound.others]
    others += [(rows, rows) for rows in _made(bound.recipe, given)]
    if not others:
        return problem
    unlabelled = together([rows.select(problem.train.names) for rows, _ in others])
    facts: dict[str, Any] = {}
    if (same := bound.task.same) is not None:
        keys = pa.concat_arrays([same(rows, options) for _, rows in others])
        held = pa.concat_arrays([same(rows, options) for rows in (problem.validation, problem.test)])
        kept, facts = _apart(keys, held)
        unlabelled = unlabelled.take(kept)
    facts = {**problem.facts, "unlabelled": len(unlabelled), **facts}
    return replace(problem, unlabelled=unlabelled if len(unlabelled) else None, facts=facts)


def _augmented(recipe: Recipe, problem: Problem) -> Problem:
    """The problem with views of its training rows, label and all, which everybody trains on."""
    if recipe.data.augment is None:
        return problem
    train = augmenter(recipe.data.augment).augment(problem.train)
    facts = {**problem.facts, "views_of_training_rows": len(train) - len(problem.train)}
    return replace(problem, train=train, facts=facts)


def augmenter(spec: Mapping[str, Any]) -> Any:
    """The part that makes views of rows.

    Raises:
        UserError: none is named, or one that makes other rows.
    """
    if "make" not in spec:
        raise UserError("data.augment names what makes the views: {make: picture_views, flip: true}")
    part = parts.make("data", spec["make"], {key: value for key, value in spec.items() if key != "make"})
    if not hasattr(part, "augment"):
        raise UserError(
            f"'{spec['make']}' makes no views that keep their row's label; under data.unlabelled its rows are for a "
            "teacher to label"
        )
    return part


def maker(spec: Mapping[str, Any]) -> Any:
    """The part that makes rows without labels.

    Raises:
        UserError: one that makes none.
    """
    part = parts.make("data", spec["make"], {key: value for key, value in spec.items() if key != "make"})
    if not hasattr(part, "make"):
        views = " (its views keep their label, so the honest twin must have them too)" * hasattr(part, "augment")
        wanted = "data.augment" if views else "data.path"
        raise UserError(f"'{spec['make']}' makes no rows without labels{views}; it belongs under {wanted}")
    return part


def _made(recipe: Recipe, train: Rows) -> Iterator[Rows]:
    """The rows that a recipe makes of training rows."""
    for spec in recipe.data.unlabelled:
        if "make" in spec:
            yield maker(spec).make(train)


def _like(rows: Rows, train: Rows) -> Rows:
    """Rows of another source under the training rows' column names; what they lack, the label too, is null."""
    columns = {}
    listed = [name for role in table.LISTED for name in train.roles.get(role, ()) if name in rows.names]
    for field in train.table.schema:
        role = next((r for r, column in train.roles.items() if column == field.name), None)
        theirs = rows.roles.get(role) if role not in (None, "label") else None
        theirs = field.name if theirs is None and field.name in listed else theirs
        if isinstance(theirs, str):
            columns[field.name] = rows.table.column(theirs).cast(field.type)
        else:
            columns[field.name] = pa.nulls(len(rows), field.type)
    # The same file read in another way: its ids must not be taken for the training rows'.
    own = rows.source if rows.source != train.source else fingerprint("like", 1, rows=rows.fingerprint)
    return replace(rows, table=pa.table(columns), source=own, roles=train.roles)


def _apart(same: pa.Array, held: pa.Array) -> tuple[Array, dict[str, Any]]:
    """The rows that may be learnt from without having seen what judges, each once; and what becomes of the others.

    Args:
        same: of every row, as `Task.same` says.
        held: of validation and test rows.

    Returns:
        Positions, rising; and the facts.
    """
    read = same.is_valid().to_numpy(zero_copy_only=False)
    judging = pc.is_in(same, value_set=held.drop_null()).to_numpy(zero_copy_only=False)
    fresh = np.flatnonzero(read & ~judging)
    _, first = np.unique(same.take(pa.array(fresh)).dictionary_encode().indices.to_numpy(), return_index=True)
    dropped = {
        "unreadable": int((~read).sum()),
        "in_validation_or_test": int(judging.sum()),
        "duplicates": len(fresh) - len(first),
    }
    return fresh[np.sort(first)], {"unlabelled_dropped": dropped}


def together(several: Sequence[Rows]) -> Rows:
    """Rows of several sources as one source of its own, with ids that count through; rows of one source keep theirs."""
    if len(several) == 1:
        return several[0]
    whole = pa.concat_tables([rows.table for rows in several], promote_options="permissive")
    ids = np.concatenate([rows.id for rows in several])
    views = np.concatenate([rows.key.view for rows in several])
    if len({rows.source for rows in several}) == 1 and len(np.unique(np.stack([ids, views]), axis=1).T) == len(ids):
        return Rows(whole, ids, several[0].source, several[0].roles, views if views.any() else None)
    source = fingerprint("together", 1, rows=[rows.fingerprint for rows in several])
    return Rows(whole, np.arange(whole.num_rows, dtype=np.int64), source, several[0].roles)


def taught_rows(problem: Problem) -> Rows:
    """What a student with a teacher sees: training rows, and unlabelled ones behind them."""
    return problem.train if problem.unlabelled is None else together([problem.train, problem.unlabelled])


def objective_of(losses: Sequence[Loss], task: Task, family: Any) -> Objective:
    """The objective a recipe names; `hard` is the family's own hard loss, or the task's."""
    from limbeck.objective import Objective

    terms, schedules = [], []
    for loss in losses:
        name = hard_name(task, family) if loss.loss == "hard" else loss.loss
        settings, moving = fixed_settings(loss)
        terms.append((loss.loss, parts.make("losses", name, settings), loss.weight))
        parts.make("losses", name, {**settings, **{key: moved.end for key, moved in moving.items()}})
        schedules.append(moving)
    by, sources = [loss.sample_weight for loss in losses], [loss.source for loss in losses]
    return Objective(terms, schedules=schedules, sample_weights=by, sources=sources)


def fixed_settings(loss: Loss) -> tuple[dict[str, Any], dict[str, Schedule]]:
    """A loss' settings as they are at first, and those that move: `{schedule: linear, start: 8, end: 2}`.

    Raises:
        UserError: a schedule that cannot be, or of a setting that is a whole number.
    """
    moving = {}
    for name, value in loss.settings.items():
        if isinstance(value, Mapping) and "schedule" in value:
            try:
                moving[name] = TypeAdapter(Schedule).validate_python(value)
            except ValidationError as wrong:
                first = wrong.errors()[0]
                place = ".".join([name, *map(str, first["loc"])])
                raise UserError(f"{loss.loss}: {place}: {complaint(first)}") from None
            known = loss.loss != "hard" and loss.loss in parts.names("losses")
            if known and parts.types_of(parts.get("losses", loss.loss)).get(name) is int:
                raise UserError(f"{loss.loss}: '{name}' is a whole number, and cannot move; give it one value")
    return {**loss.settings, **{name: schedule.start for name, schedule in moving.items()}}, moving


def knowledge_of(recipe: Recipe, temperatures: Iterable[float]) -> Knowledge:
    """What a store keeps: as the recipe says, with the tails that losses at these temperatures need."""
    if recipe.label.top is None:
        return recipe.label
    return replace(recipe.label, temperatures=tuple(sorted({*recipe.label.temperatures, *temperatures})))


def hard_name(task: Task, family: Any) -> str:
    """The hard loss of a task, unless a family has its own, as sequence models do."""
    return str(getattr(family, "hard", task.hard))


def alone(losses: Sequence[Loss], task: Task, family: Any) -> tuple[Loss, ...]:
    """The honest twin's losses: those that need no teacher, or the hard loss where none does.

    They count for as much as the student's whole objective (in the end, where weights move): a penalty on
    the weights, or a clipped gradient, must press both alike. Where a teacher's term reads attacked rows, their labels
    count for what the teacher's terms did: the twin is trained adversarially too.
    """
    taught = [loss for loss in losses if counts(loss.weight) and needs_teacher(loss, task, family)]
    kept = [loss for loss in losses if counts(loss.weight) and not needs_teacher(loss, task, family)]
    first = next((nominal(loss.weight, 1.0) for loss in losses if not isinstance(loss.weight, str)), 1.0)
    whole, own = (sum(_final(loss.weight, first) for loss in some) for some in (losses, kept))
    if any(reads_attacked(loss) for loss in taught):
        return (*kept, *hard_of(attacked=True, weight=whole - own))
    kept = kept or [*hard_of()]
    if own <= 0 or all(loss.weight == "balanced" for loss in kept):  # nothing fixed is left to scale, or to balance by
        return tuple(loss.model_copy(update={"weight": whole / len(kept)}) for loss in kept)
    return tuple(loss.model_copy(update={"weight": scaled(loss.weight, whole, own)}) for loss in kept)


def _final(weight: Weight, first: float) -> float:
    """What a weight comes to in the end; one that is balanced is held against the first that is given."""
    return first if weight == "balanced" else nominal(weight, 1.0)


def reads_attacked(loss: Loss) -> bool:
    """Whether a loss looks at what a student says of rows that are attacked."""
    known = loss.loss in parts.names("losses")
    own = parts.settings_of(parts.get("losses", loss.loss)) if known else {}
    return ATTACKED in {**own, **loss.settings}.values()


def hard_of(*, attacked: bool = False, weight: float = 1.0) -> tuple[Loss, ...]:
    """The hard loss alone, of the rows as they are, or as they are attacked."""
    signal = {"signal": ATTACKED} if attacked else {}
    return (Loss.model_validate({"loss": "hard", "weight": weight, **signal}),)


def needs_teacher(loss: Loss, task: Task, family: Any) -> bool:
    """Whether a loss of a recipe has nothing to say without a teacher."""
    name = hard_name(task, family) if loss.loss == "hard" else loss.loss
    return bool(parts.get("losses", name).needs_teacher)


def with_settings(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings with a choice applied: the part's own, and those of its training (`training.` in front)."""
    own = {**settings, **{k: v for k, v in chosen.items() if not k.startswith(("training.", "objective."))}}
    training = {k.removeprefix("training."): v for k, v in chosen.items() if k.startswith("training.")}
    return own, training


def with_losses(losses: Sequence[Loss], chosen: Mapping[str, Any]) -> tuple[Loss, ...]:
    """Losses with a choice applied: `objective.1.temperature` is that of the second."""
    changes: dict[int, dict[str, Any]] = {}
    for key, value in chosen.items():
        if key.startswith("objective."):
            _, place, name = key.split(".", 2)
            changes.setdefault(int(place), {})[name] = value
    return tuple(loss.model_copy(update=changes[i]) if i in changes else loss for i, loss in enumerate(losses))
