"""What a loss is timed on: the loss itself, and random signals of the shapes that it says it reads."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck import parts
from limbeck.knowledge import Knowledge, keep
from limbeck.term import Term
from limbeck.testing import outputs
from limbeck.types import Signals

CLASSES = 2_000
TAPPED = {"student": "body", "teacher": "body"}
TURNS = ("query", "key")
SETTINGS: dict[str, dict[str, Any]] = {
    "sampled_kl": {"sampled": 40},
    "tiny_bert": {"student_attention": TURNS, "teacher_attention": TURNS},
}
"""Those without which a loss is another one: `kl`, or `fit_net`."""


def made(name: str) -> Term:
    """A loss at its defaults."""
    needed = parts.settings_of(parts.get("losses", name)).items()
    taps = {key: TAPPED[key] for key, none in needed if none is inspect.Parameter.empty}
    term: Term = parts.make("losses", name, {**taps, **SETTINGS.get(name, {})})
    return term


def signals(name: str, term: Term, rows: int, classes: int = CLASSES) -> outputs.Outputs:
    """What the loss reads; of states the maps, or where rows are compared vectors, of answers those without steps."""
    version = -1 if term.student_taps and term.group not in ("ranking", "relation") else 0
    one = outputs.outputs_for(term, 1, classes)[version]
    # Boxes, pixels and steps of 2,000 classes each would fill the memory.
    widest = max(signal.numel() for name, signal in one.student.items() if not name.startswith("weight."))
    found = outputs.outputs_for(term, rows, classes if widest <= 20 * classes else 50)[version]
    # Plain forms do not weigh rows, nor does a run unless its rows say so.
    found = replace(found, batch={name: value for name, value in found.batch.items() if name != "weight"})
    if name == "easy_to_hard":  # of one stage it is relaxed ranking
        scores = found.teacher["scores"]
        return replace(found, teacher={f"scores.{stage}": torch.randn_like(scores) for stage in (0, 1)})
    return replace(found, teacher=stored(found.teacher["logits"])) if name == "sampled_kl" else found


def stored(logits: Tensor) -> Signals:
    """What a store gives back: 40 of the best, 40 drawn from the others, and the mass of the tail at temperature 1."""
    knowledge, id = Knowledge("float32", 40, 40, (1.0,), 0), np.arange(len(logits))
    kept = keep(knowledge, Signals({"logits": logits.numpy()}, {"logits": "logits"}), id, np.zeros_like(id))
    values = {name: torch.from_numpy(column.data) for name, column in kept.columns.items()}
    return Signals(values, {"logits": "logits"}, tail_temperatures=knowledge.temperatures)
