"""Signals to try a loss on: random ones, under the names and of the shapes that its docstring says it reads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.term import Term

LENGTH = {"T": 4, "H": 4, "W": 4, "D": 24, "L": 2, "K": 3, "Q": 3}
"""Of the axes; B is the number of rows, and C, N and V are that of classes."""

OWNERS = ("student", "teacher", "batch")

TEACHERS = {"D": 36, "H": 6, "W": 6}
"""Of the teacher's own states and embeddings, which a student's need not fit."""


@dataclass(frozen=True)
class Outputs:
    """What a loss is tried on: signals of student and teacher and a batch, by name, first axis B."""

    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]
    batch: Mapping[str, Tensor]

    def each(self, change: Callable[[Tensor], Tensor]) -> Outputs:
        """All tensors changed alike, but the weights of tapped heads, which have no rows."""
        return Outputs(*({n: _of_rows(n, t, change) for n, t in vars(self)[f.name].items()} for f in fields(self)))


def _of_rows(name: str, tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return tensor if name.startswith(("weight.", "bias.")) else change(tensor)


def example_outputs(rows: int = 6, classes: int = 5) -> Outputs:
    """Random signals under the names that Limbeck's tasks use.

    `logits` and `scores` (B, C), `steps` (B, T, C), `embedding` (B, 8), the teacher's (B, 12); in the batch
    `label` and `weight` (B,), `targets` (B, 2) positions, `history` (B, T) ids, `id` (B,), which names the row, and
    `outputs` (B,), which is C.
    """
    import torch

    torch.manual_seed(0)
    wide = {"logits": (classes,), "scores": (classes,), "steps": (LENGTH["T"], classes)}
    student = {name: torch.randn(rows, *shape) for name, shape in {**wide, "embedding": (8,)}.items()}
    teacher = {name: torch.randn(rows, *shape) for name, shape in {**wide, "embedding": (12,)}.items()}
    label = torch.arange(rows) % classes
    targets = torch.stack([label, torch.where(label % 2 == 0, (label + 1) % classes, -1)], 1)
    history, many = torch.randint(2, classes + 2, (rows, LENGTH["T"])), torch.full((rows,), classes)
    named = {"label": label, "targets": targets, "history": history, "id": torch.arange(rows), "outputs": many}
    return Outputs(student, teacher, {**named, "weight": torch.ones(rows)})


def outputs_for(term: Term, rows: int = 6, classes: int = 5) -> list[Outputs]:
    """`example_outputs`, and what else the table in the term's docstring names, drawn at random.

    A line such as ``| `boxes` (B, N, 4) | student, teacher |`` asks for a signal; of what is named after an "or"
    none is drawn. `hidden.<path>` stands for all parts that the term taps, `input.<path>`, `weight.<path>` and
    `bias.<path>` for its heads; where several shapes are named for
    a signal, there is one answer for each. Numbers are normal, and whole where the line calls them ids or positions.
    """
    import torch

    reads = _table(term)
    answers = []
    for version in range(max([len(read.shapes) for read in reads], default=1)):
        found = example_outputs(rows, classes)
        signals = {owner: dict(vars(found)[owner]) for owner in OWNERS}
        for read in reads:
            shape = read.shapes[min(version, len(read.shapes) - 1)]
            for owner in read.owners:
                for name in read.named(owner, term):
                    if name not in signals[owner] or (version and len(read.shapes) > 1):
                        sizes = [_length(axis, name, owner, {"B": rows, "C": classes}) for axis in shape]
                        normal = torch.randn(sizes)
                        signals[owner][name] = torch.randint(classes, sizes) if read.whole else normal
        answers.append(Outputs(**signals))
    return answers


@dataclass(frozen=True)
class _Read:
    """One line of a table: names, the shapes they may have, whose they are, and whether they are whole numbers."""

    names: tuple[str, ...]
    shapes: tuple[tuple[str, ...], ...]
    owners: tuple[str, ...]
    whole: bool

    def named(self, owner: str, term: Term) -> list[str]:
        taps = {"student": term.student_taps, "teacher": term.teacher_taps}.get(owner, ())
        heads = {"student": term.student_heads, "teacher": term.teacher_heads}.get(owner, ())
        paths = {name: taps if name.startswith("hidden.") else heads for name in self.names if "<path>" in name}
        return [n.replace("<path>", path) for n in self.names for path in paths.get(n, ("",))]


def _table(term: Term) -> list[_Read]:
    """What its docstring says it reads."""
    reads = []
    for line in (inspect.getdoc(type(term)) or "").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 2 or not cells[0].startswith("`"):
            continue
        first = re.split(r",? or (?=`)", cells[0])[0]
        shapes = tuple(tuple(re.findall(r"\w+", shape)) for shape in re.findall(r"\(([BV]\b[^)]*)\)", first))
        owners = tuple(owner for owner in OWNERS if owner in cells[1] or (cells[1] == "both" and owner != "batch"))
        whole = re.search(r"\b(ids|positions)\b", first) is not None
        if shapes:
            reads.append(_Read(tuple(re.findall("`([^`]+)`", first)), shapes, owners, whole))
    return reads


def _length(axis: str, name: str, owner: str, known: Mapping[str, int]) -> int:
    """Of an axis of one signal: a teacher's own widths are greater than a student's."""
    if axis.isdigit():
        return int(axis)
    if name.startswith("hidden.") and axis == "C":
        axis = "D"
    own = TEACHERS if owner == "teacher" and (name.startswith("hidden.") or axis == "D") else {}
    return {**LENGTH, "N": known["C"], "V": known["C"], **known, **own}.get(axis, 3)
