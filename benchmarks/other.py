"""Other packages' forms of our losses, where they are importable: to be timed beside ours."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.term import Term
from limbeck.testing.outputs import Outputs

Said = Mapping[str, Tensor]
TRL, SENTENCES = "trl.experimental", "sentence_transformers.sentence_transformer.losses"
MODULE_PATHS = {
    f"{who}_module_{what}": value for who in ("student", "teacher") for what, value in (("path", ""), ("io", "io"))
}
OUTPUT_PATHS = {"student_output_path": "", "teacher_output_path": ""}
PAIR = {"pair": {"student": {"path": "", "io": "io"}, "teacher": {"path": "", "io": "io"}}}


class Other(NamedTuple):
    """One loss of another package.

    Args:
        package: to be imported.
        make: of the module that has it, to a loss of two tensors.
        signal: which both are read; of states, the pair that the term compares.
        module: where it is.
    """

    package: str
    make: Callable[[Any], Callable[[Tensor, Tensor], Tensor]]
    signal: str
    module: str


def torchdistill(name: str, signal: str = "states", **settings: object) -> Other:
    def make(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
        loss = getattr(module, name)(**settings)
        return lambda mine, theirs: loss(*({"": {"io": x, "output": x}} for x in (mine, theirs)))

    return Other("torchdistill", make, signal, "torchdistill.losses.mid_level")


def divergence(alpha: float) -> Other:
    def make(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda z, t: module.compute_divergence(*(torch.log_softmax(x, 1) for x in (z, t)), alpha).mean()

    return Other("trl", make, "logits", f"{TRL}.sdpo.loss_utils")


def embeddings(metric: str) -> Other:
    def make(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
        loss = module.EmbedDistillLoss(None, distance_metric=metric)
        return lambda mine, theirs: loss.compute_loss_from_embeddings([mine], [theirs])

    return Other("sentence_transformers", make, "states", SENTENCES)


def _jsd(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(module.GKDTrainer.generalized_jsd_loss)


OTHERS = {
    "kl": divergence(0.0),
    "reverse_kl": divergence(1.0),
    "generalised_jsd": Other("trl", _jsd, "logits", f"{TRL}.gkd.gkd_trainer"),
    "fit_net": embeddings("mse"),
    "cosine_embedding": embeddings("cosine"),
    "standardised_kl": torchdistill("LogitStdKDLoss", "logits", temperature=2.0, beta=1.0, **MODULE_PATHS),
    "dist": torchdistill("DISTLoss", "logits", **MODULE_PATHS),
    "attention_transfer": torchdistill("ATLoss", at_pairs=PAIR, mode="code"),
    "inter_channel": torchdistill("ChSimLoss", feature_pairs=PAIR),
    "probabilistic_transfer": torchdistill("PKTLoss", **MODULE_PATHS),
    "relational": torchdistill("RKDLoss", dist_factor=25, angle_factor=50, reduction="mean", **OUTPUT_PATHS),
    "similarity_preserving": torchdistill("SPKDLoss", reduction="batchmean", **OUTPUT_PATHS),
}
"""By the names of ours: those that read the same tensors. Whether values are the same is for tests and `peers.py`."""


def other(name: str, term: Term, student: Said, said: Outputs) -> Callable[[], Tensor] | None:
    """Another's form of this loss, of these signals; none where no package is here that has one."""
    found = OTHERS.get(name)
    if found is None or importlib.util.find_spec(found.package) is None:
        return None
    loss = found.make(importlib.import_module(found.module))
    if found.signal == "states":
        return lambda: loss(*_placed(name, term.pairs(student, said.teacher)[0]))  # type: ignore[operator]  # of hidden terms
    return lambda: loss(student[found.signal], said.teacher[found.signal])


def _placed(name: str, states: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """States as these read them: (B, D, places), or of embeddings (N, D), one place a row."""
    if OTHERS[name].package != "sentence_transformers":
        return tuple(x.transpose(1, 2) if x.ndim == 3 else x for x in states)
    return tuple(x.flatten(2).transpose(1, 2).flatten(0, 1) if x.ndim == 4 else x for x in states)
