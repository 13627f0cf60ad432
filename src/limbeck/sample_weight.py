"""How far a teacher is to be followed, row by row: by how sure it is, or by whether it is right."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.bucketed import tail_at
from limbeck.errors import UserError
from limbeck.weight import SampleWeight


def confidence(logits: Tensor) -> Tensor:
    """max_c softmax(t)_c: the teacher's greatest probability.

    Args:
        logits: raw, (B, C).

    Returns:
        (B,), in [1 / C, 1].

    Source: Furlanello et al. 2018 (Born-Again Networks), confidence weighted by teacher max (CWTM), there over the
    sum in the batch, by which a mean over weighed rows is divided as well.

    >>> confidence(torch.tensor([[0.0, 0.0], [50.0, 0.0]])).tolist()
    [0.5, 1.0]
    """
    return torch.softmax(logits.detach().float(), 1).amax(1)


def correctness(best: Tensor, label: Tensor) -> Tensor:
    """1 where the teacher's best class is the label, or there is no label, else 0.

    Args:
        best: positions, (B,).
        label: positions, (B,), -1 without a label.

    Returns:
        (B,).

    Source: Meng et al. 2019 (Conditional Teacher-Student Learning), where a row on which the teacher errs is learnt
    from its label alone; here that is the part of a hard loss beside this one.

    >>> correctness(torch.tensor([1, 0, 0]), torch.tensor([1, 1, -1])).tolist()
    [1.0, 0.0, 1.0]
    """
    return ((best == label) | (label < 0)).float()


def sample_weights(kind: SampleWeight, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """What the rows count for by their teacher.

    Args:
        kind: by what.
        teacher: says `kind.signal`, (B, C), or, of its best, `.ids`, `.values` (B, K) and `.tail`.
        batch: has the `label` (B,), where it is by correctness.

    Returns:
        (B,), in [floor, 1].

    Raises:
        UserError: the teacher says no logits of classes, or the batch has no label.
    """
    ids = f"{kind.signal}.ids"
    name = f"{kind.signal}.values" if ids in teacher else kind.signal
    if name not in teacher or teacher[name].ndim != 2 or not teacher[name].shape[1]:
        said = ", ".join(f"{known} {tuple(value.shape)}" for known, value in teacher.items()) or "nothing"
        raise UserError(f"sample_weight reads the teacher's '{kind.signal}' of shape (B, C), and it says {said}")
    values = teacher[name]
    if ids in teacher:
        values = values.masked_fill(teacher[ids] < 0, float("-inf"))
    if kind.by == "confidence":
        found = confidence(values)
        if ids in teacher:
            found = found * (1 - tail_at(teacher, kind.signal, 1.0).float())
    else:
        if "label" not in batch:
            raise UserError("sample_weight by correctness compares the teacher with a row's label; there is no 'label'")
        best = values.argmax(1)
        if ids in teacher:
            best = teacher[ids].long().gather(1, best.unsqueeze(1)).squeeze(1)
        found = correctness(best, batch["label"])
    return found.clamp(min=kind.floor)
