"""One YAML file = one validated object = one run; every problem is found at once, with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from limbeck.artifact import Export
from limbeck.bounds import Range, Tune
from limbeck.complaint import said_of
from limbeck.errors import Mistake, RecipeError, UserError
from limbeck.form import Blank, Form
from limbeck.knowledge import Knowledge
from limbeck.split import Split
from limbeck.threat import Threat
from limbeck.types import fingerprint
from limbeck.weight import Found, SampleWeight, Schedule, Source
from limbeck.yaml_lines import Lines, Place, change, load

Positive = Annotated[int, Field(gt=0)]


def _said(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Validate, and bring what a value itself objects to among the other mistakes."""
    try:
        return check(value)
    except UserError as wrong:
        raise ValueError(str(wrong)) from None


SAID = WrapValidator(_said)


def _weighed(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Of what a weight may be, say what is wrong with the one that was meant."""
    try:
        return check(value)
    except UserError as wrong:
        raise ValueError(str(wrong)) from None
    except ValidationError as wrong:
        if isinstance(value, Mapping):
            said = [error for error in wrong.errors() if "Schedule" in str(error["loc"][:1])]
            told = "; ".join(
                ": ".join([*map(str, error["loc"][1:] if error["type"] != "missing" else ()), said_of(error)])
                for error in said
            )
            raise ValueError(f"a schedule: {told}") from None
        raise ValueError("a weight is 0 or more, a schedule, 'learned' or 'balanced'") from None


def _by(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """A word stands for a row weight by it."""
    return _said({"by": value} if isinstance(value, str) else value, check)


class Strict(BaseModel):
    """Unknown keys are mistakes, and a recipe does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Training(Strict):
    """How a student is descended. The same words serve teachers.

    Args:
        epochs: passes over the rows, at most.
        steps: updates after which training ends, where that is sooner; none for all epochs.
        batch_size: rows a step sees, over all processes and accumulated parts.
        optimizer: a class of `torch.optim`: Adam, AdamW, SGD, ...
        optimizer_settings: what that class takes beside rate and decay, such as `betas`.
        learning_rate: the highest of the schedule.
        weight_decay: as the optimizer means it.
        schedule: of the learning rate, after the warm-up.
        warmup: share of all steps in which the rate rises from 0.
        accumulate: parts a step's gradient is summed from.
        clip: largest gradient norm, or none.
        ema: decay of the averaged weights that are kept in place of the last ones, or none.
        patience: epochs without a better validation value before stopping, or none.
        check_every: epochs between two looks at the validation rows.
        precision: of the forward pass; weights stay float32.
        device: the fastest there is, or the CPU.
        bucket: batches of rows of like length, for sequences.
        checkpoint_seconds: time between two checkpoints; 0 after every epoch.
        track: where curves also go.
        attack: pictures are also moved to where the student errs most, and what it says of those is its signal
            `attacked`, for losses that read that; or none. A teacher with it learns by its hard loss of those alone.
    """

    epochs: Positive = 20
    steps: Positive | None = None
    batch_size: Positive = 256
    optimizer: str = "AdamW"
    optimizer_settings: dict[str, Any] = {}
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    accumulate: Positive = 1
    clip: Annotated[float, Field(gt=0)] | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    patience: Positive | None = None
    check_every: Positive = 1
    precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu"] = "auto"
    bucket: bool = False
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    attack: Annotated[Threat | None, SAID] = None

    def digest(self) -> dict[str, Any]:
        """What decides the weights: neither where curves go nor how often it is saved."""
        unsaid = {"attack"} if self.attack is None else set()
        return self.model_dump(mode="json", exclude={"track", "checkpoint_seconds", *unsaid})


class Part(BaseModel):
    """A named part and its settings, written side by side: `{model: ease, l2: 500}`."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The part's own settings."""
        return dict(self.model_extra or {})


class Loss(Part):
    """A loss of `losses/`, or `hard` for the task's own, with its weight.

    Args:
        loss: a part of `losses/`, or `hard`.
        weight: what its value is multiplied by; 0 leaves it out. It may move as training goes on
            (`{schedule: linear, start: 0, end: 1, until: 0.2}`; so may a numeric setting, such as a
            temperature), be `learned`, or `balanced` by the lengths of gradients.
        sample_weight: what each row counts for by the teacher, times its `weight` in the data: `confidence`, how
            sure the teacher is of it, or `correctness`, whether it is right; `{by: correctness, floor: 0.1}` lets
            no row count for less. Of losses that learn from a teacher row by row.
        source: whom it learns from: `teacher`; `average`, the student's own weights averaged over its steps
            (`training.ema` says how slowly); or `peers`, networks like it that train beside it.
    """

    loss: str
    source: Source = Field(default="teacher", alias="from")
    weight: Annotated[Annotated[float, Field(ge=0)] | Schedule | Found, WrapValidator(_weighed)] = 1.0
    sample_weight: Annotated[SampleWeight | None, WrapValidator(_by)] = None


class Student(Part):
    """A family of `models/`, its settings, and how it trains where that differs from the recipe's.

    Args:
        model: the family, a part of `models/`.
        name: what the report and the artifact call it; by default the family and its settings.
        training: keys of `training` that differ for this student and its twin.
        choose: setting (`training.` in front for those) -> values; the best on validation rows is kept, for
            student and twin each. `limbeck tune` draws from these lists instead of trying every combination.
        tune: what `limbeck tune` searches besides: setting, `training.` or `objective.1.` (a weight or another number
            of the second loss) in front for those -> range. Where it is left out: the learning rate within ten times
            of what is given; width, temperatures and all weights but the first within four times.
        objective: losses of its own in place of the recipe's.
        peers: networks like it that train beside it, where a loss is `from: peers`; each learns from all others, and
            only the student itself is judged and kept.
        generations: trainings in a row from fresh weights, each taught by the one before it and the first by the
            teacher (born-again networks); the last is judged and kept. Its twin trains once, as each of them does.
    """

    model: str
    name: str | None = None
    training: dict[str, Any] = {}
    choose: dict[str, list[Any]] = {}
    tune: dict[str, Annotated[Range, SAID]] | None = None
    objective: tuple[Loss, ...] | None = Field(default=None, min_length=1)
    peers: Positive = 1
    generations: Positive = 1

    @property
    def title(self) -> str:
        """What the report calls it: its name, or the family with the settings given."""
        return self.name or "-".join([self.model, *(str(v) for v in self.settings.values())])


class Teacher(Part):
    """Trained here (`model`), or brought (`from`, a part of `teachers/`; `ensemble` joins several of either).

    Args:
        model: a part of `models/`, trained on the task's labels.
        source: a part of `teachers/`, such as `table` or `onnx`.
        name: what the report calls it.
        training: keys of `training` that differ for the teacher.
        choose: setting -> values; the best on validation rows is kept.
        seed: of its weights and order.
        batch: rows it labels at once.
        allow_weak: go on although the gate refuses.
    """

    model: str | None = None
    source: str | None = Field(default=None, alias="from")
    name: str | None = None
    training: dict[str, Any] = {}
    choose: dict[str, list[Any]] = {}
    seed: int = 0
    batch: Positive = 128
    allow_weak: bool = False

    @model_validator(mode="after")
    def _one_of(self) -> Teacher:
        if (self.model is None) == (self.source is None):
            raise ValueError("a teacher has exactly one of model (trained here) and from (brought)")
        return self

    @property
    def members(self) -> tuple[Teacher, ...]:
        """Of an ensemble; none of any other."""
        return tuple(Teacher.model_validate(m) for m in self.settings.get("members", ())) if self.joins else ()

    @property
    def apart(self) -> int:
        """How many members are also heard one by one."""
        return len(self.members) if self.settings.get("apart") else 0

    @property
    def joins(self) -> bool:
        """Whether it is an ensemble."""
        return self.source == "ensemble"

    @property
    def title(self) -> str:
        """What the report calls it."""
        if self.name:
            return self.name
        if self.joins:
            return " + ".join(member.title for member in self.members)
        return self.model or str(self.source)


class Protocol(Strict):
    """One way of splitting, with the seeds of the splits.

    Args:
        name: what the report calls it.
        split: how rows are divided.
        splits: seeds; each makes a split of its own, on which everybody is trained and judged.
        options: of the task, where they differ from the recipe's.
    """

    name: str
    split: Annotated[Split, SAID]
    splits: tuple[int, ...] = (0,)
    options: dict[str, Any] = {}


class Data(Part):
    """Where rows come from: `pack`, or `path` with `roles`; `unlabelled` feeds distillation only.

    Args:
        pack: a name of `limbeck data list`.
        path: a file, counted from the recipe's folder.
        format: a part of `data/`; by default what the file's name ends in.
        unlabelled: more rows, each entry as this one, or `make` with a part of `data/` that makes rows of
            the training rows: `{make: recombine, count: 20000}`.
        augment: views of training rows that keep their label, which teacher, students and twins alike train on:
            `{make: picture_views, flip: true}`.
    """

    pack: str | None = None
    path: str | None = None
    format: str | None = None
    unlabelled: tuple[dict[str, Any], ...] = ()
    augment: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Data:
        if (self.pack is None) == (self.path is None):
            raise ValueError("data has exactly one of pack and path")
        return self


class Recipe(Strict):
    """One run.

    Args:
        version: of this form.
        task: a part of `tasks/`.
        description: what the report and the model card say of the data.
        data: the rows.
        options: of the task.
        protocols: ways of splitting and judging; the first is the one that artifacts are exported from.
        teacher: who teaches.
        students: who learn; each has its twin without a teacher.
        objective: the losses, summed by weight.
        label: how the teacher's answers are kept.
        training: how everybody is trained, unless they say otherwise.
        seeds: of weights and row order; as many students and twins are trained on every split.
        export: how students leave.
        tune: how `limbeck tune` searches.
    """

    version: Literal[1] = 1
    task: str
    description: str = ""
    data: Data
    options: dict[str, Any] = {}
    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)]
    teacher: Teacher
    students: Annotated[tuple[Student, ...], Field(min_length=1)]
    objective: Annotated[tuple[Loss, ...], Field(min_length=1)]
    label: Annotated[Knowledge, SAID] = Knowledge()
    training: Training = Training()
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    export: Annotated[Export, SAID] = Export()
    tune: Annotated[Tune, SAID] = Tune()

    @field_validator("students")
    @classmethod
    def _names_differ(cls, students: tuple[Student, ...]) -> tuple[Student, ...]:
        titles = [s.title for s in students]
        twice = sorted({t for t in titles if titles.count(t) > 1})
        if twice:
            raise ValueError(f"two students are called {', '.join(twice)}; give them a name")
        return students

    @property
    def fingerprint(self) -> str:
        """Of every key, defaults included."""
        return fingerprint("recipe", 1, recipe=self.model_dump(mode="json", by_alias=True))


BLANKS: Mapping[str, Blank] = {
    "task": lambda _: "",
    "data": lambda _: {"path": ""},
    "protocols": lambda i: {"name": f" {i}", "split": {"kind": "random"}},
    "teacher": lambda _: {"model": ""},
    "students": lambda i: {"model": "", "name": f" {i}"},
    "objective": lambda _: {"loss": ""},
}
"""What stands for a key that must be given where what was typed cannot be read; nothing more is said of it."""


@dataclass(frozen=True)
class Reading:
    """A recipe as far as its form allows.

    Args:
        recipe: with blanks where `untold` says; none where too little can be read.
        lines: where the user typed what.
        mistakes: of its form.
        untold: places of which nothing more is to be said.
    """

    recipe: Recipe | None
    lines: Lines
    mistakes: list[Mistake]
    untold: set[Place]


def read(path: Path, changes: Sequence[str] = ()) -> tuple[Recipe, Lines]:
    """Read and validate a recipe.

    Args:
        path: the YAML file.
        changes: `key.in.dots=value` in YAML, applied before validation.

    Raises:
        RecipeError: everything that is wrong with its form, with lines.
    """
    return parse(text_of(path), source=str(path), changes=changes)


def text_of(path: Path) -> str:
    """A recipe file's text.

    Raises:
        UserError: there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no recipe at {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a recipe file in it") from None
    except UnicodeDecodeError as wrong:
        raise UserError(f"{path} is not UTF-8 text: byte {wrong.start} is {wrong.object[wrong.start]:#04x}") from None


def parse(text: str, *, source: str = "recipe", changes: Sequence[str] = ()) -> tuple[Recipe, Lines]:
    """The same from text."""
    found = reading(text, source=source, changes=changes)
    if found.recipe is None or found.mistakes:
        raise RecipeError(source, found.mistakes)
    return found.recipe, found.lines


def reading(text: str, *, source: str = "recipe", changes: Sequence[str] = ()) -> Reading:
    """What a text says, and what is wrong with its form.

    Raises:
        RecipeError: it is no YAML, or no mapping.
        UserError: a change that leads nowhere.
    """
    said, lines = load(text, source)
    for wanted in changes:
        change(said, wanted)
    lists = frozenset({"protocols", "students", "objective"})
    form = Form(Recipe, said, lines, BLANKS, lists, list(lines.doubled))
    recipe = form.read()
    return Reading(None if lines.circular else recipe, lines, form.mistakes, form.untold)
