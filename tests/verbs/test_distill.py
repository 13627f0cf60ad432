import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from limbeck.errors import Diverged, UserError
from limbeck.knowledge import Knowledge
from limbeck.loader import TableLoader
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.squared_error import SquaredError
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.store import Store
from limbeck.term import Term
from limbeck.types import Batch, Rows, Signals
from limbeck.verbs.distill import Watch, distill
from limbeck.verbs.label import Labelling, label
from limbeck.weight import SampleWeight

torch.set_num_threads(1)
ROWS, WIDTH, CLASSES = 37, 6, 3
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, WIDTH)).astype(np.float32)
LABEL = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
ID = np.arange(ROWS) * 3 + 100
CPU = {"device": "cpu", "warmup": 0.0, "schedule": "constant"}


class Net(nn.Module):
    """Batch norm, dropout and an embedding besides logits."""

    def __init__(self, width: int = 8, dropout: float = 0.3) -> None:
        super().__init__()
        # Without the bias that batch norm would cancel: Adam would blow the rounding of its gradient up.
        self.first = nn.Linear(WIDTH, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        inner = self.drop(torch.relu(self.norm(self.first(x))))
        return {"logits": self.last(inner), "embedding": inner}


class Plain(nn.Module):
    """One linear layer, whose rows do not meet; a tensor of logits."""

    def __init__(self, outputs: int = CLASSES) -> None:
        super().__init__()
        self.last = nn.Linear(WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x)


class Lookup(nn.Module):
    """A teacher that answers by row number, bit for bit the same in any batch."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = nn.Embedding(ROWS, CLASSES)

    def forward(self, number: Tensor) -> Tensor:
        return self.answers(number)


class Matched(Term):
    """Projects the student's embedding to the teacher's width; owns a state besides."""

    projects = ("embedding",)

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.LazyLinear(11)
        self.register_buffer("steps", torch.zeros(()))

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        self.steps += 1
        return ((self.projection(student["embedding"]) - teacher["embedding"]) ** 2).mean()


@dataclass
class Interrupted(Exception):
    """Somebody pulls the plug."""


def loader(batch_size: int = 8, seed: int = 1) -> TableLoader:
    return TableLoader({"x": X, "label": LABEL, "number": np.arange(ROWS)}, ID, batch_size=batch_size, seed=seed)


def built(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return make()


def softened(temperature: float = 2.0) -> Objective:
    return Objective([("hard", CrossEntropy(), 0.5), ("kl", Kl(temperature=temperature), 0.5)])


def hard() -> Objective:
    return Objective([("hard", CrossEntropy(), 1.0)])


def assert_equal(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def stored(tmp_path: Path, teacher: nn.Module, **knowledge: Any) -> Store:
    class Teacher:
        reads = ("number",)
        fingerprint = "lookup"

        def __call__(self, batch: Batch) -> Signals:
            with torch.no_grad():
                return Signals({"logits": teacher(torch.tensor(batch["number"])).numpy()}, {"logits": "logits"})

    rows = Rows(pa.table({"number": np.arange(ROWS)}), ID, "here")
    return label(Teacher(), rows, tmp_path, Labelling(Knowledge(**{"dtype": "float32", **knowledge}), batch=5))


# What a step does


def test_twenty_steps_equal_a_loop_written_by_hand() -> None:
    teacher = built(Lookup, 5)
    training = Training(epochs=4, steps=20, batch_size=8, learning_rate=0.02, weight_decay=0.1, clip=0.5, device="cpu")
    student, by_hand = built(Net), built(Net)
    torch.manual_seed(7)
    taught = distill(student, loader(), teacher=teacher, objective=softened(), training=training)
    torch.manual_seed(7)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.02, weight_decay=0.1)
    losses, step = [], 0
    for epoch in range(4):
        for batch in loader().batches(epoch):
            share = step / 20
            factor = share / 0.05 + 1e-3 if share < 0.05 else 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95))
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * factor
            logits = by_hand(batch["x"])["logits"]
            q, p = (torch.log_softmax(z / 2.0, 1) for z in (logits, teacher(batch["number"]).detach()))
            soft = nn.functional.kl_div(q, p, log_target=True, reduction="batchmean") * 4.0
            loss = 0.5 * nn.functional.cross_entropy(logits, batch["label"]) + 0.5 * soft
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
            step += 1
    assert taught.steps == step == 20
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], value, rtol=1e-6, atol=1e-6)
    assert taught.terms["loss"] == pytest.approx([np.mean(losses[i * 5 : i * 5 + 5]) for i in range(4)], rel=1e-5)
    combined = 0.5 * np.array(taught.terms["hard"]) + 0.5 * np.array(taught.terms["kl"])
    assert combined == pytest.approx(taught.terms["loss"], rel=1e-6)


def test_stored_and_live_knowledge_teach_the_same_weights(tmp_path: Path) -> None:
    teacher = built(Lookup, 5)
    live, kept = built(Net), built(Net)
    training = Training(epochs=3, batch_size=8, **CPU)
    store = stored(tmp_path, teacher)
    torch.manual_seed(7)
    ours = distill(live, loader(), teacher=teacher, objective=softened(), training=training)
    torch.manual_seed(7)
    theirs = distill(kept, loader(), teacher=store, objective=softened(), training=training)
    assert_equal(live, kept)
    assert ours.terms == theirs.terms


def test_shortened_knowledge_teaches_from_its_tail(tmp_path: Path) -> None:
    teacher = built(Lookup, 5)
    store = stored(tmp_path, teacher, top=2, temperatures=(2.0,))
    whole, short = built(Plain), built(Plain)
    training = Training(epochs=3, batch_size=8, **CPU)
    distill(whole, loader(), teacher=teacher, objective=softened(), training=training)
    distill(short, loader(), teacher=store, objective=softened(), training=training)
    # Of three classes, two and the rest are all there is.
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(short.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"tail at temperatures \[2.0\], not 3.0"):
        distill(built(Plain), loader(), teacher=store, objective=softened(3.0), training=training)


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_eight_rows_at_once_are_four_times_two_accumulated(optimizer: str) -> None:
    teacher = built(Lookup, 5)
    weights = []
    for accumulate in (1, 4):
        student = built(Plain)
        training = Training(
            epochs=3, batch_size=8, accumulate=accumulate, optimizer=optimizer, learning_rate=0.05, **CPU
        )
        taught = distill(student, loader(), teacher=teacher, objective=softened(), training=training)
        weights.append((student, taught.terms["loss"]))
    (whole, loss), (parts, loss_of_parts) = weights
    torch.testing.assert_close(whole.last.weight, parts.last.weight, rtol=1e-5, atol=1e-6)
    assert loss == pytest.approx(loss_of_parts, rel=1e-5)


class Stepped(nn.Module):
    """Logits of the row, and of each of four steps; a teacher of it notes when it is asked."""

    def __init__(self, said: list[str] | None = None, name: str = "student") -> None:
        super().__init__()
        self.row, self.steps = nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, 4 * CLASSES)
        self.said, self.name = said, name

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.said is not None:
            self.said.append(self.name)
        return {"logits": self.row(x), "steps": self.steps(x).unflatten(1, (4, CLASSES))}


class Held:
    """Stored answers of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def gather(self, id: Any, view: Any = None) -> Signals:
        with torch.no_grad():
            said = self.module(torch.from_numpy(X[(id - 100) // 3]))
        return Signals({name: value.numpy() for name, value in said.items()}, {"logits": "logits", "steps": "logits"})


def uneven() -> TableLoader:
    """Rows of which three in five have no label, and that differ in weight and in how many steps count."""
    known = np.random.default_rng(3)
    columns = {
        "label": np.where(known.random(ROWS) < 0.6, -1, LABEL),
        "weight": known.random(ROWS).astype(np.float32) * 3,
        "mask": np.arange(4) < known.integers(0, 5, size=(ROWS, 1)),
    }
    return TableLoader({"x": X, **columns}, ID, batch_size=8, seed=1)


def mixed() -> Objective:
    terms: list[tuple[str, Term, Any]] = [
        ("hard", CrossEntropy(), 0.5),
        ("kl", Kl(temperature=2.0), 0.5),
        ("steps", Kl(signal="steps"), "learned"),
        ("near", SquaredError(signal="steps"), 0.1),
        ("right", Kl(), 0.4),
    ]
    return Objective(terms, sample_weights=[None, SampleWeight("confidence"), None, None, SampleWeight("correctness")])


@pytest.mark.parametrize("live", [True, False], ids=["live", "stored"])
@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_a_batch_in_parts_teaches_as_a_whole_however_unevenly_its_rows_count(accumulate: int, live: bool) -> None:
    """With plain descent, which shows the scale of gradients as well as their direction."""
    found = []
    for parts in (1, accumulate):
        student, teacher, objective = built(Stepped), built(Stepped, 5), mixed()
        training = Training(
            epochs=2, batch_size=8, accumulate=parts, optimizer="SGD", learning_rate=0.1, clip=1.0, **CPU
        )
        knows = teacher if live else Held(teacher)
        taught = distill(student, uneven(), teacher=knows, objective=objective, training=training)
        found.append((student, objective, taught.terms))
    (whole, objective, curves), (parted, other_objective, other_curves) = found
    for a, b in ((whole, parted), (objective, other_objective)):
        for name, value in a.state_dict().items():
            torch.testing.assert_close(b.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert other_curves["gradient_norm"][0] == pytest.approx(curves["gradient_norm"][0], rel=1e-4)
    for name in ("loss", "hard", "kl", "steps", "near", "right"):
        assert other_curves[name] == pytest.approx(curves[name], rel=1e-4), name


def test_a_live_teacher_answers_ahead_only_where_what_counts_hangs_on_its_answers() -> None:
    """Its answers to all parts at once take much memory; steps that count are known without them."""
    for sample_weight, ahead in ((None, False), (SampleWeight("correctness"), True)):
        said: list[str] = []
        student, teacher = built(lambda: Stepped(said)), built(lambda: Stepped(said, "teacher"), 5)  # noqa: B023
        terms: list[tuple[str, Term, Any]] = [("hard", CrossEntropy(), 0.5), ("steps", Kl(signal="steps"), 0.5)]
        objective = Objective(terms, sample_weights=[None, sample_weight])
        training = Training(steps=1, batch_size=8, accumulate=4, **CPU)
        distill(student, uneven(), teacher=teacher, objective=objective, training=training)
        step = said[2:]  # behind the dry batch
        assert step == (["teacher"] * 4 + ["student"] * 4 if ahead else ["student", "teacher"] * 4)


def test_the_twin_sees_the_same_rows_in_the_same_order_from_the_same_start() -> None:
    class Watching(CrossEntropy):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[list[int]] = []

        def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
            self.seen.append(batch["id"].tolist())
            return super().forward(student, teacher, batch)

    ours, theirs = Watching(), Watching()
    training = Training(epochs=2, batch_size=8, **CPU)
    student, twin = built(Net), built(Net)
    assert_equal(student, twin)
    teacher = built(Lookup, 5)
    with_teacher = Objective([("hard", ours, 1.0), ("kl", Kl(), 1e-9)])
    torch.manual_seed(7)
    distill(student, loader(), teacher=teacher, objective=with_teacher, training=training)
    alone = Objective([("hard", theirs, 1.0 + 1e-9)])
    torch.manual_seed(7)
    distill(twin, loader(), objective=alone, training=training)
    assert ours.seen == theirs.seen
    for name, value in student.state_dict().items():
        # So weak a teacher moves nothing that dropout or order would not move far more.
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_a_frozen_teacher_stays_as_it_was_and_asleep() -> None:
    teacher = built(Net, 5)
    teacher(torch.from_numpy(X))  # its batch norm has statistics of its own
    before = copy.deepcopy(teacher.state_dict())
    school = nn.ModuleDict({"teacher": teacher, "student": built(Net)})
    distill(
        school["student"],
        loader(),
        teacher=teacher,
        objective=Objective([("kl", Kl(), 1.0)]),
        training=Training(epochs=1, batch_size=8, **CPU),
    )
    school.train()
    assert school["student"].training
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    teacher(torch.from_numpy(X) + 9.0)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_projections_of_the_objective_are_sized_by_the_dry_batch_and_learn() -> None:
    class Wide(Net):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"embedding": x.repeat(1, 2)[:, :11]}

    term = Matched()
    objective = Objective([("matched", term, 1.0)])
    watch = Watch(validate=lambda student: -float(term.projection.weight.detach().norm()))
    torch.manual_seed(3)
    start = nn.Linear(8, 11).weight.detach().clone()
    torch.manual_seed(3)
    taught = distill(
        built(Net, 3),
        loader(),
        teacher=built(Wide, 5),
        objective=objective,
        training=Training(epochs=3, batch_size=8, learning_rate=0.05, **CPU),
        watch=watch,
    )
    assert term.projection.weight.shape == start.shape
    assert taught.terms["loss"][-1] < taught.terms["loss"][0] / 1.2
    assert len(set(taught.validation.values())) == 3
    assert term.steps.item() == taught.steps  # the dry batch does not count


def test_averaged_weights_are_kept_where_they_are_wanted() -> None:
    class Recording(CrossEntropy):
        weights: list[Tensor]

        def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
            self.weights.append(plain.last.weight.detach().clone())
            return super().forward(student, teacher, batch)

    plain, averaged, term = built(Plain), built(Plain), Recording()
    term.weights = []
    training = Training(epochs=2, batch_size=8, learning_rate=0.05, **CPU)
    distill(plain, loader(), objective=Objective([("hard", term, 1.0)]), training=training)
    distill(averaged, loader(), objective=hard(), training=training.model_copy(update={"ema": 0.8}))
    after = [*term.weights[2:], plain.last.weight.detach()]  # the first is the dry batch's, the second the start
    mean = after[0]
    for weight in after[1:]:
        mean = 0.8 * mean + 0.2 * weight
    torch.testing.assert_close(averaged.last.weight.detach(), mean, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(averaged.last.weight, plain.last.weight, atol=1e-4)


def test_half_precision_trains_and_leaves_a_plain_student() -> None:
    student = built(Net)
    training = Training(epochs=8, batch_size=8, learning_rate=0.02, precision="bf16", ema=0.9, **CPU)
    dtypes = []
    watch = Watch(validate=lambda kept: dtypes.append(kept(torch.from_numpy(X))["logits"].dtype) or 0.0)
    taught = distill(student, loader(), teacher=built(Lookup, 5), objective=softened(), training=training, watch=watch)
    assert taught.terms["hard"][-1] < taught.terms["hard"][0] * 0.9
    assert set(dtypes) == {torch.float32}
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    with torch.no_grad():
        x = torch.from_numpy(X)
        inner = torch.relu(student.norm(student.first(x)))
        assert torch.equal(student(x)["logits"], student.last(inner))  # no autocast outlives the training
    distill(student, loader(), objective=hard(), training=Training(epochs=1, batch_size=8, **CPU))


# Which weights are kept


def kept_by(
    values: list[float], *, higher_is_better: bool = True, **training: Any
) -> tuple[Any, list[Tensor], nn.Module]:
    seen: list[Tensor] = []
    said = iter(values)

    def validate(student: nn.Module) -> float:
        assert not student.training
        seen.append(student.last.weight.detach().clone())
        return next(said)

    student = built(Net)
    told = Training(epochs=len(values), batch_size=8, **CPU, **training)
    watch = Watch(validate=validate, higher_is_better=higher_is_better)
    return distill(student, loader(), objective=hard(), training=told, watch=watch), seen, student


@pytest.mark.parametrize(
    ("values", "higher", "best"),
    [
        ([0.1, 0.5, 0.4, 0.5], True, 2),
        ([0.1, 0.5, 0.4, 0.05], False, 4),
        ([math.nan, 0.2, math.nan], True, 2),
        ([math.nan, math.nan], True, 2),
        ([math.inf, 0.3], False, 2),
    ],
)
def test_the_first_best_epoch_by_validation_is_kept(values: list[float], higher: bool, best: int) -> None:
    taught, seen, student = kept_by(values, higher_is_better=higher)
    assert taught.best == best
    assert torch.equal(student.last.weight, seen[best - 1])
    assert list(taught.validation.values()) == pytest.approx(values, nan_ok=True)
    assert not student.training


def test_without_validation_the_last_weights_are_kept() -> None:
    student = built(Plain)
    taught = distill(student, loader(), objective=hard(), training=Training(epochs=3, batch_size=8, **CPU))
    assert (taught.best, taught.validation, taught.steps) == (3, {}, 15)


def test_patience_counts_epochs_without_a_better_value() -> None:
    taught, _, _ = kept_by([0.1, 0.5, 0.4, 0.3, 0.9], patience=2)
    assert (taught.best, max(taught.validation)) == (2, 4)


def test_patience_waits_for_a_look_at_the_validation_rows() -> None:
    values = [0.1, 0.2, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0]
    taught, _, _ = kept_by([*values, *[0.0] * 8], patience=2, check_every=3)
    assert list(taught.validation) == [3, 6, 9, 12]
    assert taught.best == 9


def test_whoever_watches_may_give_it_up_at_any_look_but_the_last() -> None:
    asked: list[dict[int, float]] = []

    def taught(wanted: int) -> Any:
        def stop(curve: Mapping[int, float]) -> bool:
            asked.append(dict(curve))
            return max(curve) >= wanted

        values = iter([0.1, 0.3, 0.2, 0.5])
        watch = Watch(validate=lambda _: next(values), stop=stop)
        training = Training(epochs=4, batch_size=8, **CPU)
        return distill(built(Net), loader(), objective=hard(), training=training, watch=watch)

    early = taught(3)
    assert (early.stopped, early.best, max(early.validation), early.steps) == (True, 2, 3, 15)
    assert asked[-1] == {1: 0.1, 2: 0.3, 3: 0.2}
    whole = taught(4)
    assert (whole.stopped, whole.best) == (False, 4), "what is done is not given up"
    assert [max(curve) for curve in asked] == [1, 2, 3, 1, 2, 3]


def test_steps_may_end_it_inside_an_epoch_with_a_last_look() -> None:
    looked: list[float] = []
    taught = distill(
        built(Net),
        loader(),
        objective=hard(),
        training=Training(epochs=9, steps=7, batch_size=8, check_every=5, **CPU),
        watch=Watch(validate=lambda student: looked.append(1.0) or 1.0),
    )
    assert taught.steps == 7
    assert list(taught.validation) == [2]


# Going on after a stop


def shuffled() -> DataLoader[Any]:
    tensors = torch.from_numpy(X), torch.from_numpy(LABEL), torch.from_numpy(ID)

    def columns(rows: list[Any]) -> dict[str, Tensor]:
        x, label, id = (torch.stack(column) for column in zip(*rows, strict=True))
        return {"x": x, "label": label, "number": (id - 100) // 3}

    return DataLoader(TensorDataset(*tensors), batch_size=8, shuffle=True, collate_fn=columns)


class Fuse(CrossEntropy):
    """Blows at one of its calls."""

    def __init__(self, at: float = math.inf) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise Interrupted
        return super().forward(student, teacher, batch)


class Both(nn.Module):
    """A teacher with logits and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = nn.Embedding(ROWS, CLASSES + 11)

    def forward(self, number: Tensor) -> dict[str, Tensor]:
        said = self.answers(number)
        return {"logits": said[:, :CLASSES], "embedding": said[:, CLASSES:]}


def rich(
    folder: Path | None, *, fuse: float = math.inf, stop: int = 0, seconds: float = 0.0, table: bool = True
) -> Any:
    """A training with all that has state; it may be interrupted at a call of the loss or in a validation."""
    looks = 0

    def validate(student: nn.Module) -> float:
        nonlocal looks
        looks += 1
        if looks == stop:
            raise Interrupted
        with torch.no_grad():
            return float(student(torch.from_numpy(X))["logits"].std())

    student, term = built(Net), Matched()
    objective = Objective([("hard", Fuse(fuse), 0.5), ("kl", Kl(), 0.5), ("matched", term, 0.1)])
    training = Training(
        epochs=5, batch_size=8, learning_rate=0.02, ema=0.9, device="cpu", checkpoint_seconds=seconds, accumulate=2
    )
    watch = Watch(validate=validate, folder=folder)
    taught = distill(
        student,
        loader() if table else shuffled(),
        teacher=built(Both, 5),
        objective=objective,
        training=training,
        watch=watch,
    )
    return student, term, taught


@pytest.mark.parametrize("table", [True, False], ids=["table", "shuffling DataLoader"])
@pytest.mark.parametrize(
    "stop",
    [{"stop": 1}, {"stop": 3}, {"fuse": 2}, {"fuse": 15}, {"fuse": 15, "seconds": 1e-9}, {"fuse": 44, "seconds": 1e-9}],
)
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, stop: dict[str, Any], table: bool) -> None:
    whole, term, taught = rich(None, table=table)
    with pytest.raises(Interrupted):
        rich(tmp_path, **stop, table=table)
    torch.manual_seed(12345)  # another process has another random state
    again, again_term, again_taught = rich(tmp_path, table=table)
    assert_equal(whole, again)
    assert_equal(term, again_term)
    assert taught.terms == again_taught.terms
    assert taught.validation == again_taught.validation
    assert (taught.best, taught.steps) == (again_taught.best, again_taught.steps)


def test_it_goes_on_where_it_stopped_instead_of_beginning_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        rich(tmp_path, stop=4)
    calls: list[int] = []

    class Counting(CrossEntropy):
        def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
            calls.append(len(batch["label"]))
            return super().forward(student, teacher, batch)

    student = built(Net)
    objective = Objective([("hard", Counting(), 0.5), ("kl", Kl(), 0.5), ("matched", Matched(), 0.1)])
    training = Training(epochs=5, batch_size=8, learning_rate=0.02, ema=0.9, device="cpu", accumulate=2)
    watch = Watch(folder=tmp_path)
    distill(student, loader(), teacher=built(Both, 5), objective=objective, training=training, watch=watch)
    assert sum(calls) == 8 + 2 * ROWS  # the dry batch, and the two epochs that were left


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first, _, taught = rich(tmp_path)
    again, _, taught_again = rich(tmp_path, fuse=2)  # the first call is the dry batch's
    assert_equal(first, again)
    assert taught.terms == taught_again.terms


# Losses that are not finite


class Poisoned(CrossEntropy):
    """Says NaN at some of its calls; the first is the dry batch's."""

    def __init__(self, calls: Callable[[int], bool]) -> None:
        super().__init__()
        self.calls, self.poisoned = 0, calls

    def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
        self.calls += 1
        loss = super().forward(student, teacher, batch)
        return loss * math.nan if self.poisoned(self.calls) else loss


def test_a_batch_whose_loss_is_not_finite_moves_nothing() -> None:
    student, by_hand = built(Plain), built(Plain)
    training = Training(epochs=1, batch_size=8, optimizer="SGD", learning_rate=0.1, **CPU)
    term = Poisoned(lambda call: call in (3, 4))
    taught = distill(student, loader(), objective=Objective([("hard", term, 1.0)]), training=training)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for step, batch in enumerate(loader().batches(0)):
        if step not in (1, 2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(by_hand(batch["x"]), batch["label"]).backward()
            optimizer.step()
    torch.testing.assert_close(student.last.weight, by_hand.last.weight, rtol=1e-6, atol=1e-6)
    assert taught.steps == 5
    assert all(math.isfinite(value) for value in taught.terms["loss"])


@pytest.mark.parametrize("batch_size", [8, ROWS], ids=["five steps an epoch", "one step an epoch"])
def test_after_three_in_a_row_it_goes_back_to_the_last_good_state_at_half_the_rate(batch_size: int) -> None:
    """Equal to a training that had the rates of before and after from the start."""
    steps = -(-ROWS // batch_size)
    epochs = 2 * max(1, 5 // steps)
    first_half = epochs // 2 * steps
    # One half of the steps, three refusals, and all is well again; the dry batch is call 1.
    term = Poisoned(lambda call: first_half + 2 <= call <= first_half + 4)
    student, by_hand = built(Plain), built(Plain)
    training = Training(epochs=epochs, batch_size=batch_size, optimizer="SGD", learning_rate=0.2, **CPU)
    taught = distill(student, loader(batch_size), objective=Objective([("hard", term, 1.0)]), training=training)
    assert taught.steps == epochs * steps
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.2)
    for epoch in range(epochs):
        for batch in loader(batch_size).batches(epoch):
            optimizer.param_groups[0]["lr"] = 0.2 if epoch < epochs // 2 else 0.1
            optimizer.zero_grad()
            nn.functional.cross_entropy(by_hand(batch["x"]), batch["label"]).backward()
            optimizer.step()
    torch.testing.assert_close(student.last.weight, by_hand.last.weight, rtol=1e-6, atol=1e-6)


def test_each_return_restores_the_optimisers_memory() -> None:
    """Two returns to one good state find it unchanged, although steps were taken in between."""
    bad = {7, 8, 9, 11, 12, 13}  # epoch 2 fails at once; then after one good step; then never
    term = Poisoned(lambda call: call in bad)
    student, by_hand = built(Plain), built(Plain)
    training = Training(epochs=2, batch_size=8, optimizer="Adam", learning_rate=0.2, **CPU)
    distill(student, loader(), objective=Objective([("hard", term, 1.0)]), training=training)
    optimizer = torch.optim.Adam(by_hand.parameters())
    for epoch in range(2):
        for batch in loader().batches(epoch):
            optimizer.param_groups[0]["lr"] = 0.2 if epoch < 1 else 0.05
            optimizer.zero_grad()
            nn.functional.cross_entropy(by_hand(batch["x"]), batch["label"]).backward()
            optimizer.step()
    torch.testing.assert_close(student.last.weight, by_hand.last.weight, rtol=1e-5, atol=1e-6)


class Steep(Fuse):
    """A square whose steps overshoot until the rate is small; once far out it says NaN."""

    def __init__(self, at: float = math.inf, limit: float = 1e3) -> None:
        super().__init__(at)
        self.limit = limit

    def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
        super().forward(student, teacher, batch)
        loss = (student["logits"] ** 2).mean()
        return loss * math.nan if loss > self.limit else loss


def steep(folder: Path | None, at: float = math.inf, **wanted: Any) -> Any:
    student = built(Plain)
    training = Training(epochs=6, batch_size=8, optimizer="SGD", learning_rate=10.0, checkpoint_seconds=1e-9, **CPU)
    watch = Watch(folder=folder, validate=lambda kept: -float(kept.last.weight.detach().norm()))
    objective = Objective([("steep", Steep(at, **wanted), 1.0)])
    return student, distill(student, loader(), objective=objective, training=training, watch=watch), objective


def test_a_training_resumed_on_its_way_back_is_as_if_uninterrupted(tmp_path: Path) -> None:
    whole, taught, objective = steep(None)
    calls = objective.terms[0].calls
    assert calls > taught.steps + 6, "it went back at least twice"
    for at in range(2, calls + 1, 5):
        with pytest.raises(Interrupted):
            steep(tmp_path / str(at), at)
        torch.manual_seed(12345)
        again, again_taught, _ = steep(tmp_path / str(at))
        assert_equal(whole, again)
        assert (again_taught.terms, again_taught.validation) == (taught.terms, taught.validation)


def test_a_training_that_diverges_ends_however_often_it_is_killed(tmp_path: Path) -> None:
    for _ in range(40):
        try:
            steep(tmp_path, at=4, limit=-1.0)
        except Interrupted:
            continue
        except Diverged:
            break
    else:
        pytest.fail("it never ended")


@pytest.mark.parametrize("batch_size", [8, ROWS])
def test_losses_that_stay_non_finite_end_it(batch_size: int) -> None:
    term = Poisoned(lambda call: call > 1)
    training = Training(epochs=40, batch_size=batch_size, learning_rate=0.25, **CPU)
    with pytest.raises(Diverged, match=r"lower training.learning_rate \(now 0.25\)") as refused:
        distill(built(Plain), loader(batch_size), objective=Objective([("hard", term, 1.0)]), training=training)
    assert refused.value.exit_code == 5


def test_weights_broken_by_the_last_step_of_an_epoch_are_not_judged() -> None:
    class Breaking(CrossEntropy):
        calls = 0

        def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
            Breaking.calls += 1
            # The loss is finite, its gradient is not.
            spoilt = (student["logits"] * 0).sum().clamp(min=0).sqrt() if Breaking.calls == 3 else 0.0
            return super().forward(student, teacher, batch) + spoilt

    def validate(student: nn.Module) -> float:
        assert all(torch.isfinite(p).all() for p in student.parameters())
        return 1.0

    student = built(Plain)
    training = Training(epochs=3, batch_size=ROWS, optimizer="SGD", learning_rate=0.1, **CPU)
    objective = Objective([("hard", Breaking(), 1.0)])
    taught = distill(student, loader(ROWS), objective=objective, training=training, watch=Watch(validate=validate))
    assert taught.steps == 3
    assert torch.isfinite(student.last.weight).all()


# Parts that do not fit


def test_shapes_that_do_not_fit_are_told_before_any_step() -> None:
    student = built(lambda: Plain(3))
    before = copy.deepcopy(student)
    with pytest.raises(UserError, match=r"^student: axis 2 of 'logits' is 3, not 2$"):
        distill(student, loader(), teacher=built(lambda: Plain(2)), objective=softened())
    assert_equal(student, before)


def test_a_dry_batch_moves_neither_buffers_nor_the_random_state() -> None:
    class Unsized(Objective):
        def forward(self, *said: Any, **company: Any) -> Any:
            return super().forward(*said, **company)[0].expand(2), {}

    student = built(Net)
    before = copy.deepcopy(student.state_dict())
    state = torch.get_rng_state()
    with pytest.raises(UserError, match=r"the objective answers a tensor of shape \(2,\); a loss is one number"):
        distill(student, loader(), objective=Unsized([("hard", CrossEntropy(), 1.0)]))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


class Endless:
    def __iter__(self) -> Iterator[Any]:
        return loader().batches(0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"training": Training(optimizer="Adamw", device="cpu")},
            r"torch.optim has no 'Adamw'; try AdamW, Adam or SGD",
        ),
        ({"training": Training(optimizer="lr_scheduler", device="cpu")}, "torch.optim has no 'lr_scheduler'"),
        (
            {"training": Training(optimizer_settings={"momentum": 1}, device="cpu")},
            "optimizer_settings do not fit AdamW",
        ),
        ({"objective": softened()}, "terms that need a teacher, and none is given"),
        ({"loader": Endless()}, "the loader has no length"),
        ({"loader": []}, "the loader has no batches"),
        ({"loader": [torch.zeros(2, 3)]}, "the loader yields Tensor; yield a mapping"),
        ({"loader": [{"y": torch.zeros(2, 3)}]}, "student: forward wants x; the batch has y"),
    ],
)
def test_what_cannot_work_is_said_in_words(changes: dict[str, Any], words: str) -> None:
    given = {"loader": loader(), "objective": hard(), **changes}
    with pytest.raises(UserError, match=words):
        distill(built(Plain), given.pop("loader"), **given)


def test_stored_knowledge_needs_ids_in_the_batches(tmp_path: Path) -> None:
    store = stored(tmp_path, built(Lookup, 5))
    with pytest.raises(UserError, match="the loader's batches need an 'id' column"):
        distill(built(Plain), [(torch.from_numpy(X), torch.from_numpy(LABEL))], teacher=store, objective=softened())


# Loaders and modules of all sorts


def batches(of: str) -> list[Any]:
    x, y, id = torch.from_numpy(X), torch.from_numpy(LABEL), torch.from_numpy(ID)
    cut = [slice(i, i + 8) for i in range(0, ROWS, 8)]
    return [
        {
            "tuples": (x[c], y[c], id[c]),
            "lists": [x[c], y[c], id[c]],
            "mappings": {"x": x[c], "label": y[c], "id": id[c]},
            "DataLoader": None,
        }[of]
        for c in cut
    ]


def test_every_sort_of_loader_teaches_the_same(tmp_path: Path) -> None:
    store = stored(tmp_path, built(Lookup, 5))
    students = []
    for sort in ("tuples", "lists", "mappings", "DataLoader"):
        given = batches(sort)
        if sort == "DataLoader":
            tensors = torch.from_numpy(X), torch.from_numpy(LABEL), torch.from_numpy(ID)
            given = DataLoader(TensorDataset(*tensors), batch_size=8)
        student = built(Plain)
        distill(student, given, teacher=store, objective=softened(), training=Training(epochs=2, **CPU))
        students.append(student)
    for other in students[1:]:
        assert_equal(students[0], other)


@dataclass
class Output:
    """As transformers' models answer."""

    logits: Tensor
    past: Any = None


class Named(Plain):
    """Its input has another name, and it may be given a label it does not need."""

    def forward(self, features: Tensor, label: Tensor | None = None) -> Tensor:  # type: ignore[override]
        assert label is None
        return super().forward(features)


class Told(Plain):
    def forward(self, x: Tensor) -> Any:
        return Output(super().forward(x))


class Mapped(Plain):
    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x), "cache": (x,), "loss": None}


@pytest.mark.parametrize("kind", [Named, Told, Mapped])
def test_modules_of_other_habits_learn_as_a_plain_one(kind: type[Plain]) -> None:
    plain, other = built(Plain), built(kind)
    given = [pair[:2] for pair in batches("tuples")]
    training = Training(epochs=2, **CPU)
    distill(plain, given, teacher=built(Plain, 9), objective=softened(), training=training)
    distill(other, given, teacher=built(kind, 9), objective=softened(), training=training)
    assert_equal(plain, other)


def test_a_forward_that_lacks_a_column_or_answers_a_number_is_refused() -> None:
    class Hungry(Plain):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)

    class Terse(Plain):
        def forward(self, x: Tensor) -> Any:
            return 3.0

    with pytest.raises(UserError, match="student: forward wants lengths; the batch has x, label"):
        distill(built(Hungry), [batches("tuples")[0][:2]], objective=hard())
    with pytest.raises(UserError, match="student: forward returns float; return a tensor of logits"):
        distill(built(Terse), batches("tuples"), objective=hard())
