import copy
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.live import as_batch, dry_batch, freeze, recall, speaker
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.objective import Objective
from limbeck.term import Term
from limbeck.types import Array, Signals

BATCH = {"x": torch.randn(4, 3), "label": torch.tensor([0, 1, 0, 1])}
Pair = namedtuple("Pair", "x y")


class Says(nn.Module):
    """Answers what it is told to."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self.said = said

    def forward(self, x: Tensor) -> Any:
        return self.said


def test_batches_are_mappings_or_input_label_and_id() -> None:
    x, label, id = torch.zeros(2, 3), torch.ones(2), torch.arange(2)
    assert as_batch({"text": x, "id": id}) == {"text": x, "id": id}
    assert as_batch((x, label, id)) == {"x": x, "label": label, "id": id}
    assert as_batch([x, label]) == {"x": x, "label": label}
    assert as_batch((x,)) == {"x": x}
    assert as_batch(Pair(x, label)) == {"x": x, "label": label}


@pytest.mark.parametrize("given", [torch.zeros(3), "text", (1, 2, 3, 4), (), 7])
def test_other_batches_are_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"the loader yields \w+; yield a mapping of tensors, or \(x, label\[, id\]\)"):
        as_batch(given)


def calling(forward: Any, batch: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """What a module's forward is given."""
    seen: dict[str, Any] = {}

    class Watching(nn.Module):
        pass

    def watched(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        seen.update(kwargs)
        seen.update({str(place): value for place, value in enumerate(args)})
        return torch.zeros(4, 2)

    import functools
    import inspect

    Watching.forward = functools.wraps(forward)(watched)  # type: ignore[method-assign]
    assert inspect.signature(Watching().forward)
    given = BATCH if batch is None else batch
    speaker(Watching(), given, "student")(given)
    return seen


def test_a_module_is_given_the_columns_its_forward_names() -> None:
    assert list(calling(lambda self, x: None)) == ["x"]
    assert list(calling(lambda self, label, x=None: None)) == ["label", "x"]
    assert list(calling(lambda self, features: None)) == ["0"]  # the single input, whatever it is called
    assert list(calling(lambda self, features, label=None: None)) == ["0"]
    assert list(calling(lambda self, *rest, **more: None)) == ["0"]
    assert list(calling(lambda self, ids, mask=None: None, {"ids": BATCH["x"], "y": BATCH["label"]})) == ["ids"]


@pytest.mark.parametrize(
    ("forward", "columns", "words"),
    [
        (lambda self, x, lengths: None, ("x", "label"), "student: forward wants lengths; the batch has x, label"),
        (lambda self, a, b: None, ("x", "label"), "student: forward wants a, b; the batch has x, label"),
        (lambda self, ids: None, ("label",), "student: forward wants ids; the batch has label"),
        (lambda self, ids=None: None, ("label",), "student: forward wants no column by name; the batch has label"),
    ],
)
def test_a_forward_that_wants_other_columns_is_refused(forward: Any, columns: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        calling(forward, {name: BATCH[name] for name in columns})


def test_a_wrapper_of_ones_own_is_called_by_its_own_forward() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Says(torch.ones(4, 2))

        def forward(self, label: Tensor) -> Tensor:
            said: Tensor = self.module(label) * label.unsqueeze(1)
            return said

    assert speaker(Wrapper(), BATCH, "student")(BATCH)["logits"].tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]


def test_answers_are_tensors_mappings_or_outputs_with_logits() -> None:
    logits = torch.zeros(4, 2)
    Output = namedtuple("Output", "logits hidden")
    for said in (logits, {"logits": logits}, Output(logits, None)):
        assert speaker(Says(said), BATCH, "teacher")(BATCH)["logits"] is logits
    for said in (3.0, (logits,), None):
        with pytest.raises(
            UserError, match=r"teacher: forward returns \w+; return a tensor of logits or signals by name"
        ):
            speaker(Says(said), BATCH, "teacher")(BATCH)


def test_a_frozen_module_sleeps_for_good() -> None:
    teacher = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)))
    assert freeze(teacher) is teacher
    school = nn.ModuleList([teacher, nn.Dropout(0.5)])
    assert school.train() is school
    assert teacher.train() is teacher
    assert teacher[1].train(True) is teacher[1]
    assert not any(module.training for module in teacher.modules())
    assert school[1].training
    assert not any(p.requires_grad for p in teacher.parameters())
    before = copy.deepcopy(teacher.state_dict())
    first, second = teacher(BATCH["x"]), teacher(BATCH["x"])
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


class Memory:
    """Knows what is twice the id, and once the view."""

    def gather(self, id: Array, view: Array | None = None) -> Signals:
        values = id * 2.0 + (0 if view is None else view)
        return Signals({"logits": values[:, None].astype(np.float32)}, {"logits": "logits"}, tail_temperatures=(2.0,))


def test_stored_knowledge_is_found_by_id_and_view() -> None:
    ask = recall(Memory(), torch.device("cpu"))
    said = ask({"id": torch.tensor([5, 1])})
    assert said["logits"].tolist() == [[10], [2]]
    assert said.tail_temperatures == (2.0,)  # type: ignore[attr-defined]
    assert ask({"id": torch.tensor([5, 1]), "view": torch.tensor([1, 0])})["logits"].tolist() == [[11], [2]]
    with pytest.raises(UserError, match="found by key: the loader's batches need an 'id' column"):
        ask({"x": torch.zeros(2)})


class Remembering(Term):
    """Projects, counts, and draws."""

    projects = ("embedding",)

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.LazyLinear(5)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
        self.seen += 1
        return ((self.projection(student["embedding"]) - teacher["embedding"]) ** 2).mean() * torch.rand(())


def test_the_dry_batch_sizes_projections_and_leaves_all_else_as_it_was() -> None:
    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"embedding": self.norm(x)}

    student, term = Student(), Remembering()
    objective = Objective([("remembering", term, 1.0)])
    state = torch.get_rng_state()
    dry_batch(student, objective, lambda rows: {"embedding": torch.zeros(4, 5)}, BATCH)
    assert term.projection.weight.shape == (5, 3)
    assert term.seen.item() == 0
    assert student.norm.num_batches_tracked.item() == 0
    assert not student.norm.running_mean.any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        (torch.zeros(4, 3), torch.zeros(4, 2), "student: axis 2 of 'logits' is 3, not 2"),
        (torch.zeros(4, 3), torch.zeros(5, 3), "student: axis 1 of 'logits' is 4, not 5"),
        (torch.zeros(4, 1), torch.zeros(4, 3), "student: axis 2 of 'logits' is 1, not 3"),  # broadcasting would hide it
        (torch.zeros(4, 3), torch.zeros(4, 7, 3), "student: 'logits' has 2 axes, the teacher's has 3"),
    ],
)
def test_shapes_that_differ_are_told_in_words(student: Tensor, teacher: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}$"):
        dry_batch(Says(student), Objective([("kl", Kl(), 1.0)]), lambda rows: {"logits": teacher}, BATCH)


def test_answers_that_are_no_tensors_are_not_compared() -> None:
    said = {"logits": torch.zeros(4, 3), "cache": (1, 2), "loss": None}
    dry_batch(Says(said), Objective([("kl", Kl(), 1.0)]), lambda rows: dict(said), BATCH)


def test_a_hard_loss_needs_no_teacher_in_the_dry_batch() -> None:
    dry_batch(Says(torch.zeros(4, 3)), Objective([("hard", CrossEntropy(), 1.0)]), None, BATCH)
