"""The contracts of models and tasks let sound parts through, and catch one broken in each way."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from limbeck import parts, testing
from limbeck.encoder import Encoder
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.task import Judgement, Problem, Source, Task, columns_mean
from limbeck.types import Axis, Rows

torch.set_num_threads(1)
LABELS = Axis("label", ("a", "b", "c"))
RANDOM = np.random.default_rng(0)


def rows(count=30, start=0):
    word = [f"w{i % 7}" for i in range(count)]
    size = RANDOM.normal(size=count)
    table = pa.table({"word": word, "size": size, "answer": [i % 3 for i in range(count)]})
    return Rows(table, np.arange(start, start + count), "shop", {"label": "answer"})


# Models


class Lookup(nn.Module):
    def __init__(self, words, outputs):
        super().__init__()
        self.table = nn.Embedding(words, outputs)

    def forward(self, word):
        return {"logits": self.table(word)}


@dataclass(frozen=True)
class Family:
    """A table of words, in a way that a test may break."""

    kinds: ClassVar[Mapping[str, str]] = {"logits": "logits"}
    extra: int = 0
    column: str = "word"

    def encoder(self, problem):
        return Encoder([Vocabulary.fit(self.column, problem.train.column(self.column))])

    def module(self, encoder, outputs):
        return Lookup(len(encoder[self.column]), outputs + self.extra)


class FitsAll(Family):
    def encoder(self, problem):
        every = [*problem.train.column("word"), *problem.test.column("word")]
        return Encoder([Vocabulary.fit("word", every)])


class Unseeded(Family):
    def module(self, encoder, outputs):
        module = super().module(encoder, outputs)
        module.table.weight.data += torch.rand((), generator=torch.Generator().manual_seed(Unseeded.count()))
        return module

    count = staticmethod(iter(range(1000)).__next__)


class Misnamed(Family):
    def module(self, encoder, outputs):
        module = super().module(encoder, outputs)
        module.forward = lambda term: {"logits": module.table(term)}
        return module


class Undeclared(Family):
    kinds: ClassVar[Mapping[str, str]] = {"logits": "guess"}


class OutOfRange(Family):
    """Unknown words fall off the table."""

    def encoder(self, problem):
        return Encoder([OffTheEnd("word", sorted(set(problem.train.column("word"))))])


class OffTheEnd(Vocabulary):
    kind = "off_the_end"

    def __call__(self, column):
        ids = super().__call__(column)["word"]
        return {"word": np.where(ids == 1, len(self), ids)}


class Centred(Family):
    """Answers depend on the batch."""

    def module(self, encoder, outputs):
        module = super().module(encoder, outputs)
        module.forward = inspect.unwrap(lambda word: {"logits": module.table(word) - module.table(word).mean(0)})
        return module


class Lossy(Family):
    """Keeps a number outside its state, drawn when it is built."""

    def module(self, encoder, outputs):
        module = super().module(encoder, outputs)
        shift = torch.rand(())
        module.forward = lambda word: {"logits": module.table(word) + shift}
        return module


def problem(unseen="w0"):
    test = rows(9, 60)
    words = pa.array([unseen] * 9)
    test = replace(test, table=test.table.set_column(0, "word", words))
    return Problem(rows(30), rows(9, 40), test, LABELS, ("word",))


@pytest.fixture
def offered(monkeypatch):
    """Lets `parts` find one family under the name `mine`."""

    def offer(family):
        monkeypatch.setattr(parts, "names", lambda folder: ("mine",))
        get = parts.get
        monkeypatch.setattr(
            parts, "get", lambda folder, name: type(family) if folder == "models" else _encoding(get, folder, name)
        )
        return family

    return offer


def _encoding(get, folder, name):
    return OffTheEnd if name == "off_the_end" else Vocabulary


def test_a_sound_family_passes(offered):
    testing.check_model(offered(Family()), problem("never in training"))


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (FitsAll(), "fitted on more than training rows"),
        (Family(column="answer"), "reads .'answer'., which students of this task may not see"),
        (Unseeded(), "two modules of one seed start differently"),
        (Misnamed(), r"forward takes \['term'\], the encoder makes \['word'\]"),
        (Undeclared(), "unknown kind 'guess'"),
        (Family(extra=1), r"has shape \(8, 4\), not \(B, 3\)"),
        (Centred(), "alone are answered differently"),
        (Lossy(), "saved and loaded, it answers differently"),
    ],
)
def test_a_broken_family_is_caught(offered, family, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_model(offered(family), problem("never in training"))


def test_values_never_seen_must_be_answered(offered):
    with pytest.raises(AssertionError, match="fails when it is told of values never seen in training"):
        testing.check_model(offered(OutOfRange()), problem())


def test_a_family_that_nobody_offers_is_named():
    with pytest.raises(AssertionError, match="no model is offered as Family"):
        testing.check_model(Family(), problem())


# Tasks


def prepare(source, part, options):
    chosen = [source.rows.take(np.flatnonzero(part == p)) for p in range(3)]
    return Problem(*chosen, LABELS, ("word",))


def targets(rows, problem):
    return {"label": rows.column("answer").astype(np.int64)}


def judge(predictor, rows, problem, part=slice(None)):
    said = np.asarray(predictor(rows.batch(predictor.reads))["logits"])
    label = targets(rows, problem)["label"]
    columns = {
        "right": (said.argmax(1) == label).astype(float)[part],
        "loss": np.abs(said[np.arange(len(label)), label] - 10),
    }
    metrics = {"accuracy": float(columns["right"].mean()), "error": float(columns["loss"].mean())}
    return Judgement(metrics, rows.id, columns, {}, np.argsort(-said, 1))


TASK = Task(
    name="sort",
    roles=("label",),
    signal=("logits", "logits"),
    prepare=prepare,
    targets=targets,
    hard="cross_entropy",
    metrics={"accuracy": columns_mean("right"), "error": columns_mean("loss")},
    judge=judge,
    baselines=(),
    answer=lambda said, axis, batch, top: [{"label": axis.values[i]} for i in said["logits"].argmax(1)],
    show=lambda problem, judgement, i: {"truth": "as labelled", "answer": LABELS.values[judgement.top[i, 0]]},
)


def test_a_sound_task_passes():
    testing.check_task(TASK, Source(rows(90)))
    lower = {"error": TASK.metrics["error"], "accuracy": TASK.metrics["accuracy"]}
    testing.check_task(replace(TASK, metrics=lower, higher_is_better=False), Source(rows(90)))
    own = replace(TASK, takes_unlabelled=True, same=lambda r, o: pa.array(r.id).cast(pa.large_string()))
    testing.check_task(own, Source(rows(90)))


def shuffled(source, part, options):
    return prepare(source, np.random.default_rng().permutation(part), options)


def overlapping(source, part, options):
    sound = prepare(source, part, options)
    return replace(sound, test=source.rows.take(np.flatnonzero(part > 0)))


def ordered(predictor, rows, problem):
    found = judge(predictor, rows, problem)
    right = found.columns["right"] * np.linspace(1, 2, len(rows))
    return replace(
        found, columns={**found.columns, "right": right}, metrics={**found.metrics, "accuracy": right.mean()}
    )


def rounded(predictor, rows, problem):
    found = judge(predictor, rows, problem)
    return replace(found, metrics={**found.metrics, "accuracy": round(found.metrics["accuracy"], 1) - 0.01})


def incomplete(predictor, rows, problem):
    found = judge(predictor, rows, problem)
    return replace(found, metrics={"accuracy": found.metrics["accuracy"]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prepare": shuffled}, "preparing the same rows twice gives two problems"),
        ({"prepare": overlapping}, r"row \d+ is in validation and in test"),
        ({"targets": lambda r, p: {"label": targets(r, p)["label"][1:]}}, "entries for"),
        ({"judge": ordered}, "permuting the rows changes accuracy"),
        ({"judge": rounded}, "accuracy is .* in the judgement and .* of its columns"),
        ({"judge": incomplete}, r"judged \['accuracy'\], promised \['accuracy', 'error'\]"),
        ({"higher_is_better": False}, "accuracy is 1 of an oracle and"),
        ({"answer": lambda said, axis, batch, top: []}, "3 rows got 0 answers"),
        ({"takes_unlabelled": True}, "has no `same` to keep them apart from test rows"),
        ({"same": lambda r, o: pa.array(["a"])}, "`same` has 1 entries"),
        ({"same": lambda r, o: pa.nulls(len(r), pa.large_string())}, "that it cannot be read"),
        ({"same": lambda r, o: pa.array([str(i) for i in range(len(r))])}, "depends on the rows beside it"),
    ],
)
def test_a_broken_task_is_caught(changes, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_task(replace(TASK, **changes), Source(rows(90)))


def test_targets_that_are_no_classes_ask_for_an_oracle():
    task = replace(TASK, targets=lambda r, p: {"size": r.column("size")})
    with pytest.raises(AssertionError, match="give an `oracle`"):
        testing.check_task(task, Source(rows(90)))
    testing.check_task(task, Source(rows(90)), oracle=lambda r, p: 10 * np.eye(3)[targets(r, p)["label"]])
