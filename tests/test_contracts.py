"""Every part, found by its folder, keeps the contract of its sort."""

import dataclasses
import inspect
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from limbeck import parts, testing
from limbeck.errors import UserError
from limbeck.recipe import Loss, Part, Student, Teacher
from limbeck.task import Problem, Source, Task
from limbeck.types import Rows

torch.set_num_threads(1)
WORDS = ["tea", "cup", "pot", "leaf", "milk", "sugar", "good", "bad", "fine", "torn", "late", "kind", "好", "茶", "杯"]

SMALL: Mapping[str, Mapping[str, Any]] = {
    "bagging": {"count": 2},
    "bag_of_embeddings": {"vocabulary": 60, "width": 6, "hidden": 5},
    "borrowed_classifier": {"body": {"model": "lenet"}, "teacher_width": 7},
    "bidirectional_gru": {"vocabulary": 60, "width": 6, "hidden": 5, "length": 12, "tail": 4},
    "two_tower": {"item": ("item", "tags"), "width": 4},
    "character_transformer": {"width": 8, "heads": 2, "length": 40, "stride": 3},
    "gradient_boosting": {"rounds": 10},
    "matrix_factorisation": {"width": 4},
    "random_forest": {"trees": 5},
    "residual_network": {"widths": (4, 6), "blocks": 1},
    "stacking": {"folds": 2},
    "sasrec": {"width": 8, "layers": 1, "length": 6},
    "text_convolution": {"vocabulary": 60, "width": 6, "channels": 4, "widths": (1, 2)},
    "tfidf_linear": {"minimum": 1},
}
"""Settings that make a family small; a family that is not named here is tried as it comes."""

TAPPED = {"student": "body.3", "teacher": "encoder.last"}
"""Parts of a student and a teacher, for losses that compare what they say."""

BRINGS_ITS_OWN = {
    "transformer": "needs a pretrained folder; tests/models/test_transformer.py makes one",
    "vision_backbone": "needs one too; tests/models/test_vision_backbone.py makes it",
    "efficientnet_lite": "needs a pack; tests/models/test_efficientnet_lite.py tries it",
}


def interactions(rows: int = 900) -> Source:
    random = np.random.default_rng(0)
    user, item = random.integers(0, 40, rows), random.integers(0, 25, rows)
    table = pa.table({"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item], "time": np.arange(rows)})
    return Source(Rows(table, np.arange(rows), "shop", {"user": "user", "item": "item", "time": "time"}))


def texts(rows: int = 300) -> Source:
    random = np.random.default_rng(0)
    said = [" ".join(random.choice(WORDS, random.integers(1, 9))) + f" {i}" for i in range(rows)]
    table = pa.table({"text": said, "label": [("no", "yes")[i % 2] for i in range(rows)]})
    return Source(Rows(table, np.arange(rows), "shop", {"text": "text", "label": "label"}))


def pictures(rows: int = 150) -> Source:
    """Fourteen by sixteen grey pixels; of one label bright above, of the other below."""
    random = np.random.default_rng(0)
    made = random.integers(0, 120, (rows, 14, 16), dtype=np.uint8)
    made[::2, :7] += 120
    made[1::2, 7:] += 120
    table = pa.table({"picture": [png(one) for one in made], "label": [("high", "low")[i % 2] for i in range(rows)]})
    return Source(Rows(table, np.arange(rows), "shop", {"picture": "picture", "label": "label"}))


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def impressions(rows: int = 400) -> Source:
    """Every sort of column; the label follows price and item."""
    random = np.random.default_rng(0)
    user, item, price = random.integers(0, 30, rows), random.integers(0, 12, rows), random.normal(size=rows)
    table = pa.table({
        "user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item], "price": pa.array(price, mask=price > 2),
        "tags": [[f"t{i % 3}", f"t{i % 5}"][: i % 3] for i in item],
        "when": pa.array(np.arange(rows) * 10**9, pa.timestamp("us")),
        "note": [" ".join(random.choice(WORDS, 8)) + f" {n}" for n in range(rows)],
        "label": [int(i % 2 + p + random.normal() > 0.5) for i, p in zip(item, price, strict=True)],
    })  # fmt: skip
    roles = {"user": "user", "item": "item", "time": "when", "label": "label"}
    return Source(Rows(table, np.arange(rows), "shop", roles))


def series(count: int = 6, weeks: int = 40) -> Source:
    """Weekly demand of some series around levels of their own, some weeks missing, with prices and a kind."""
    random = np.random.default_rng(0)
    name, week = np.divmod(np.arange(count * weeks), weeks)
    price = random.normal(size=count * weeks)
    table = pa.table({
        "series": [f"s{n}" for n in name], "week": week,
        "y": 20.0 * (name + 1) + 5 * np.sin(week) - 3 * price + random.normal(size=len(week)),
        "price": price, "kind": [f"k{n % 2}" for n in name],
    })  # fmt: skip
    table = table.take(np.flatnonzero(random.random(len(week)) > 0.1))
    roles = {"series": "series", "time": "week", "target": "y", "known": ("price",), "static": ("kind",)}
    return Source(Rows(table, np.arange(table.num_rows), "shop", roles))


def shoppers(count: int = 120) -> Source:
    """Purchases on days of a year, by customers of whom some buy all the time and most hardly ever."""
    random = np.random.default_rng(0)
    rate = random.gamma(0.5, 12.0, count)
    owner = np.repeat(np.arange(count), 2 + random.poisson(rate))
    table = pa.table({
        "customer": [f"c{c}" for c in owner], "day": random.integers(0, 365, len(owner)),
        "paid": random.gamma(2.0, 10.0, len(owner)).round(2) + 0.01,
    })  # fmt: skip
    roles = {"user": "customer", "time": "day", "amount": "paid"}
    return Source(Rows(table, np.arange(table.num_rows), "shop", roles))


def by_customer(rows: Rows) -> Any:
    number = np.array([int(name[1:]) for name in rows.column("customer")])
    return np.array([0, 0, 0, 1, 2], np.int8)[number % 5]


def in_time(rows: Rows) -> Any:
    week = rows.column("week")
    return (week >= 26).astype(np.int8) + (week >= 33)


SOURCES = {
    "behaviour": impressions,
    "classify_image": pictures,
    "classify_text": texts,
    "demand": series,
    "recommend": interactions,
    "value": shoppers,
}
"""A small source for each task; a new task brings one here."""

PARTS = {"demand": in_time, "value": by_customer}
"""Tasks whose rows are not divided at random."""


def problem(task: Task) -> Problem:
    source = SOURCES[task.name]()
    drawn = np.random.default_rng(1).choice(3, len(source.rows), p=(0.6, 0.2, 0.2)).astype(np.int8)
    part = PARTS[task.name](source.rows) if task.name in PARTS else drawn
    return task.prepare(source, part, dict(task.options))


@pytest.mark.parametrize("name", parts.names("losses"))
def test_every_loss_keeps_its_contract(name: str) -> None:
    needed = parts.settings_of(parts.get("losses", name)).items()
    tapped = {key: TAPPED[key] for key, default in needed if default is inspect.Parameter.empty}
    testing.check_loss(parts.make("losses", name, tapped))


@pytest.mark.parametrize("name", parts.names("losses"))
def test_every_loss_says_whose_it_is(name: str) -> None:
    assert parts.get("losses", name).paper


@pytest.mark.parametrize("name", parts.names("tasks"))
def test_every_task_keeps_its_contract(name: str) -> None:
    task = parts.get("tasks", name)
    assert task.name == name
    source = SOURCES[name]()
    testing.check_task(task, source, part=PARTS[name](source.rows) if name in PARTS else None)


@pytest.mark.parametrize("name", parts.names("tasks"))
def test_what_a_task_names_is_there(name: str) -> None:
    task = parts.get("tasks", name)
    assert not parts.make("losses", task.hard, {}).needs_teacher
    for baseline in task.baselines:
        kinds = parts.get("models", baseline).kinds
        assert kinds[task.signal[0]] == task.signal[1]
    made = problem(task)
    assert set(made.reads) <= set(made.train.names)
    targets = task.targets(made.train, made)
    assert all(len(values) == len(made.train) for values in targets.values())


def tasks_of(family: Any) -> list[Task]:
    """The tasks whose main signal a family says and whose columns its encoder finds."""
    found = []
    for name in parts.names("tasks"):
        task = parts.get("tasks", name)
        if family.kinds.get(task.signal[0]) != task.signal[1]:
            continue
        try:
            family.encoder(problem(task))
            found.append(task)
        except UserError as wrong:
            if "no column has the role" not in str(wrong) and "are for the task" not in str(wrong):
                raise
    return found


@pytest.mark.parametrize("name", [n for n in parts.names("models") if n not in BRINGS_ITS_OWN])
def test_every_family_of_models_keeps_its_contract(name: str) -> None:
    family = parts.make("models", name, dict(SMALL.get(name, {})))
    tasks = tasks_of(family)
    assert tasks, f"no task has a signal that {name} says"
    for task in tasks:
        testing.check_model(family, problem(task))


@pytest.mark.parametrize("name", [n for n in parts.names("models") if n not in BRINGS_ITS_OWN])
def test_every_family_learns_its_tasks_hard_loss(name: str) -> None:
    """Fitted or descended for a moment, it beats the same family untaught on the rows it has seen."""
    from limbeck.bind import hard_name
    from limbeck.model import Model
    from limbeck.objective import Objective
    from limbeck.verbs.fit import fit

    family = parts.make("models", name, dict(SMALL.get(name, {})))
    task = tasks_of(family)[0]
    made = problem(task)
    encoder, outputs = family.encoder(made), len(made.axis)
    torch.manual_seed(0)
    module = family.module(encoder, outputs)
    inputs, targets = encoder.rows(made.train), task.targets(made.train, made)
    term = parts.make("losses", hard_name(task, family), {})
    batch = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in {**inputs, **targets}.items()}
    if hasattr(family, "fit"):
        before = Model(name, {}, encoder, module, outputs).fingerprint
        objective = Objective([("hard", term, 1.0)])
        fit(family, module, inputs, targets, key=made.train.key, outputs=outputs, objective=objective)
        assert Model(name, {}, encoder, module, outputs).fingerprint != before
        return
    tensors = {key: batch[key] for key in inputs}
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = term(module(**tensors), {}, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < losses[0]


def test_families_that_are_not_tried_here_are_tried_elsewhere() -> None:
    assert set(BRINGS_ITS_OWN) <= set(parts.names("models"))
    assert set(SMALL) <= set(parts.names("models"))
    assert set(SOURCES) == set(parts.names("tasks"))


@pytest.mark.parametrize(
    ("folder", "name"),
    [(folder, name) for folder in ("models", "teachers", "data", "losses") for name in parts.names(folder)],
)
def test_settings_have_names_types_and_words(folder: str, name: str) -> None:
    part = parts.get(folder, name)
    assert part.__doc__, f"{folder}/{name} has no docstring"
    for setting in parts.settings_of(part):
        described = " ".join(str(kind.__doc__) for kind in part.__mro__)
        assert setting in described, f"{folder}/{name}: the setting '{setting}' is not described"
    if dataclasses.is_dataclass(part):
        assert part.__dataclass_params__.frozen, f"{folder}/{name} can be changed after it is made"


@pytest.mark.parametrize(
    ("folder", "schemas"),
    [("models", (Student, Teacher)), ("teachers", (Teacher,)), ("losses", (Loss,))],
)
def test_no_setting_has_the_name_of_a_recipes_own_key(folder: str, schemas: tuple[type[Part], ...]) -> None:
    """It could never be set: the recipe would take it for its own."""
    own = {key for schema in schemas for key, field in schema.model_fields.items() if field.alias is None}
    own |= {str(field.alias) for schema in schemas for field in schema.model_fields.values() if field.alias}
    for name in parts.names(folder):
        assert not own & set(parts.settings_of(parts.get(folder, name))), f"{folder}/{name}"


def test_a_part_that_breaks_its_contract_would_be_found() -> None:
    task = parts.get("tasks", "recommend")
    with pytest.raises(AssertionError):
        testing.check_task(replace(task, higher_is_better=False), interactions())
