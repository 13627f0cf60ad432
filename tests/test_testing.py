"""The contracts let sound parts through, and catch a part broken in each way."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from limbeck import testing
from limbeck.losses.catalogue_cross_entropy import CatalogueCrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.listwise_kl import ListwiseKl
from limbeck.losses.next_item import NextItem
from limbeck.term import HiddenRowTerm, RowTerm, Term
from limbeck.types import Axis, Rows, Signals

torch.set_num_threads(1)
LABELS = Axis("label", ("a", "b", "c"))
RANDOM = np.random.default_rng(0)


def rows(count=30, start=0):
    word = [f"w{i % 7}" for i in range(count)]
    size = RANDOM.normal(size=count)
    table = pa.table({"word": word, "size": size, "answer": [i % 3 for i in range(count)]})
    return Rows(table, np.arange(start, start + count), "shop", {"label": "answer"})


# Teachers


@dataclass
class Teacher:
    """Says the column `size`, in a way that a test may break."""

    reads: tuple[str, ...] = ("size",)
    fingerprint: str = "teacher"

    def numbers(self, batch):
        return np.outer(batch["size"], [1.0, 2.0])

    def __call__(self, batch):
        return Signals({"logits": self.numbers(batch)}, {"logits": "logits"})


class Forgetful(Teacher):
    calls = 0

    def numbers(self, batch):
        self.calls += 1
        return super().numbers(batch) + self.calls


class Positional(Teacher):
    def numbers(self, batch):
        return super().numbers(batch) + np.arange(len(batch.key))[:, None]


class Normalising(Teacher):
    """Its answer to a row depends on the others of the batch."""

    def numbers(self, batch):
        return super().numbers(batch) - batch["size"].mean()


class Peeking(Teacher):
    def numbers(self, batch):
        return super().numbers(batch) + np.array(batch["answer"])[:, None]


class Curious(Teacher):
    def numbers(self, batch):
        return super().numbers(batch) + ("answer" in batch)


class Meddling(Teacher):
    def numbers(self, batch):
        batch["size"][:] = np.sort(batch["size"])
        return super().numbers(batch)


class Unsound(Teacher):
    def numbers(self, batch):
        return super().numbers(batch) * np.nan


class Masking(Teacher):
    def numbers(self, batch):
        return np.where([True, False], super().numbers(batch), -np.inf)


class Short(Teacher):
    def numbers(self, batch):
        return super().numbers(batch)[:-1]


class Drifting(Teacher):
    fingerprints = 0

    @property
    def fingerprint(self):
        self.fingerprints += 1
        return str(self.fingerprints)

    @fingerprint.setter
    def fingerprint(self, value): ...


class Kindless(Teacher):
    def __call__(self, batch):
        return Signals({"logits": self.numbers(batch)}, {"logits": "guess"})


@pytest.mark.parametrize("teacher", [Teacher(), Masking()])
def test_a_sound_teacher_passes(teacher):
    testing.check_teacher(teacher, rows())


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (Forgetful(), "two equal batches are answered differently"),
        (Positional(), "alone are answered differently"),
        (Normalising(), "alone are answered differently"),
        (Peeking(), "fails when it is given only the columns of `reads`"),
        (Curious(), "columns outside `reads` change the answer"),
        (Meddling(), "changed the columns of the batch"),
        (Unsound(), "60 numbers that are NaN"),
        (Short(), r"has shape \(29, 2\) for 30 rows"),
        (Drifting(), "fingerprint changed by being used"),
        (Kindless(), "unknown kind 'guess'"),
        (Teacher(fingerprint=""), "must be a text"),
        (Teacher(reads=("size", "sku")), "columns that the rows lack: .'sku'"),
    ],
)
def test_a_broken_teacher_is_caught(teacher, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_teacher(teacher, rows())


def test_one_row_is_too_few():
    with pytest.raises(AssertionError, match="at least 2 rows"):
        testing.check_teacher(Teacher(), rows(1))


# Losses


@pytest.mark.parametrize("loss", [Kl(), ListwiseKl(), CatalogueCrossEntropy(), NextItem()])
def test_sound_losses_pass(loss):
    testing.check_loss(loss)


class Loss(Term):
    """Squared error to the teacher, in a way that a test may break."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, student, teacher, batch):
        return self.compute(student["logits"], teacher["logits"].detach())


class Leaking(Term):
    def forward(self, student, teacher, batch):
        return ((student["logits"] - teacher["logits"]) ** 2).mean()


class Liar(Term):
    needs_teacher = False

    def forward(self, student, teacher, batch):
        target = teacher["logits"].detach() if teacher else 0.0
        return ((student["logits"] - target) ** 2).mean()


class Counting(Term):
    """State is no fault: it is copied before every use."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, student, teacher, batch):
        self.steps += 1
        return self.steps * ((student["logits"] - teacher["logits"].detach()) ** 2).mean()


class Endless(Loss):
    def target(self, teacher, batch):
        return teacher["logits"].log()


def squared(student, teacher):
    return ((student - teacher) ** 2).mean()


def overwriting(student, teacher):
    teacher.zero_()
    return squared(student, teacher)


@pytest.mark.parametrize("loss", [Loss(squared), Counting()])
def test_a_sound_term_of_ones_own_passes(loss):
    testing.check_loss(loss)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (Loss(lambda s, t: ((s - t) ** 2).mean(1)), r"shape \(6,\); a loss is a scalar"),
        (Loss(lambda s, t: squared(s, t) / 0), "the value is inf"),
        (Loss(lambda s, t: squared(s.detach(), t)), "no gradient reaches the student"),
        (Loss(lambda s, t: (s * 0).sum() + 1), "no gradient reaches the student"),
        (Loss(lambda s, t: squared(s, t) + (s * 0).sqrt().sum()), "gradient is NaN or infinite"),
        (Leaking(), "gradient reaches the teacher's logits"),
        (Liar(), "without a teacher the value changes"),
        (Loss(lambda s, t: (s**2).mean()), "another teacher changes nothing"),
        (Loss(lambda s, t: ((s - t) ** 2).mean(1) @ torch.arange(len(s)).to(s.dtype)), "permuting the rows"),
        (Loss(lambda s, t: ((s - t) ** 2).sum()), "doubling the batch"),
        (Loss(lambda s, t: squared(s, t) * (2 if s.dtype == torch.bfloat16 else 1)), "bfloat16"),
        (Endless(squared), "soft target is not finite"),
    ],
)
def test_a_broken_loss_is_caught(loss, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_loss(loss, rowwise=True)


def test_changing_what_is_given_is_caught():
    class Overwriting(Term):
        def forward(self, student, teacher, batch):
            batch["label"].zero_()
            return squared(student["logits"], teacher["logits"].detach())

    with pytest.raises(AssertionError, match="it changes the tensors of the batch"):
        testing.check_loss(Overwriting())


def test_a_mean_over_rows_that_does_not_weigh_them_is_caught():
    class Plain(RowTerm):
        def rows(self, student, teacher, batch):
            return ((student["logits"] - teacher["logits"].detach()) ** 2).mean(1)

    class Deaf(Plain):
        def forward(self, student, teacher, batch):
            return self.rows(student, teacher, batch).mean()

    testing.check_loss(Plain())
    with pytest.raises(AssertionError, match="a row of weight 2 does not count as two"):
        testing.check_loss(Deaf())


def test_a_mean_over_some_rows_that_counts_all_of_them_is_caught():
    class Labelled(RowTerm):
        def rows(self, student, teacher, batch):
            gap = ((student["logits"] - teacher["logits"].detach()) ** 2).mean(1)
            return torch.where(batch["label"] >= 0, gap, 0.0)

        def counts(self, teacher, batch):
            return batch["label"] >= 0

    class Miscounted(Labelled):
        def denominator(self, teacher, batch):
            return batch["weight"].sum()

    testing.check_loss(Labelled())
    with pytest.raises(AssertionError, match="two parts by what counts in them make"):
        testing.check_loss(Miscounted())


def test_losses_between_rows_are_spared_the_doubled_batch():
    def pairs(student, teacher):
        return ((torch.cdist(student, student) - torch.cdist(teacher, teacher)) ** 2).mean() / len(student)

    loss = Loss(lambda s, t: pairs(s.float(), t.float()))
    testing.check_loss(loss)
    with pytest.raises(AssertionError, match="doubling the batch"):
        testing.check_loss(loss, rowwise=True)


class Hint(HiddenRowTerm):
    """Squared error between tapped parts, in a way that a test may break.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D) or (B, C, H, W) | student, teacher |
    | `near` (B, K) positions, or `far` (B, 2) | batch |
    """

    def __init__(self):
        super().__init__(student="body.3", teacher="encoder.last")

    def pair(self, student, teacher):
        return ((student.float() - teacher.float()) ** 2).flatten(1).mean(1)


class Idle(Hint):
    def size(self, student, teacher, batch):
        super().size(student, teacher, batch)
        self.unused = nn.Linear(1, 1)


def test_a_loss_is_tried_on_all_that_its_docstring_says_it_reads():
    flat, pictures = testing.outputs_for(Hint())
    assert flat.student["hidden.body.3"].shape == (6, 24)
    assert flat.teacher["hidden.encoder.last"].shape == (6, 36)
    assert pictures.student["hidden.body.3"].shape == (6, 24, 4, 4)
    assert pictures.teacher["hidden.encoder.last"].shape == (6, 36, 6, 6)
    assert pictures.batch["near"].shape == (6, 3)
    assert pictures.batch["near"].dtype == torch.int64
    assert "far" not in pictures.batch
    testing.check_loss(Hint())


def test_each_shape_that_a_signal_may_have_is_tried():
    class Stepped(Loss):
        """Squared error.

        | reads | from |
        |---|---|
        | `logits` (B, C) or (B, T, C) | student, teacher |
        """

    shapes = [outputs.student["logits"].shape for outputs in testing.outputs_for(Stepped(squared))]
    assert shapes == [(6, 5), (6, 4, 5)]


def test_a_projection_that_no_gradient_reaches_is_caught():
    with pytest.raises(AssertionError, match=r"no gradient reaches its own unused"):
        testing.check_loss(Idle())


def test_state_outside_buffers_is_caught():
    class Amnesiac(Loss):
        steps = 0

        def forward(self, student, teacher, batch):
            self.steps += 1
            return self.steps * super().forward(student, teacher, batch)

    with pytest.raises(AssertionError, match="keep state in buffers"):
        testing.check_loss(Amnesiac(squared))
