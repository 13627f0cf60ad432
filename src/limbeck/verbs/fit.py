"""Fit a student in one go: closed forms and libraries' estimators, on hard or soft targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from limbeck.live import Knowledge
from limbeck.model import Fitted
from limbeck.objective import Objective
from limbeck.types import Array, Key

CHUNK = 4096
SPARSE_BELOW = 0.1


def fit(  # noqa: PLR0913  # data and what it is told by, each of its own shape
    family: Fitted,
    module: nn.Module,
    inputs: Mapping[str, Array],
    targets: Mapping[str, Array],
    *,
    key: Key,
    outputs: int,
    objective: Objective,
    teacher: Knowledge | None = None,
) -> None:
    """Fit a module on what the objective asks of every row.

    Args:
        family: knows how to fit.
        module: as the family built it; its weights are set.
        inputs: the encoder's tensors, first axis N.
        targets: what the hard loss reads, and `weight` where rows have one; first axis N.
        key: of the rows, by which stored knowledge is found.
        outputs: length of the main signal's axis; terms find it in the batch under the same name.
        objective: every term must offer a soft target (a hard loss offers one-hot or multi-hot labels).
        teacher: stored knowledge, or none where no term needs one.

    Raises:
        UserError: a term without a soft target.
    """
    pieces: list[Any] = []
    for start in range(0, len(key), CHUNK):
        part = slice(start, start + CHUNK)
        batch = {name: torch.from_numpy(np.ascontiguousarray(value[part])) for name, value in targets.items()}
        batch["outputs"] = torch.full((len(key.id[part]),), outputs)
        known = {}
        if teacher is not None:
            said = teacher.gather(key.id[part], key.view[part])
            known = {name: torch.from_numpy(value) for name, value in said.items()}
        with torch.no_grad():
            soft = objective.target(known, batch).numpy()
        few = soft.ndim == 2 and np.count_nonzero(soft) < SPARSE_BELOW * soft.size
        pieces.append(sparse.csr_matrix(soft) if few else soft)
    whole = sparse.vstack(pieces, format="csr") if any(sparse.issparse(p) for p in pieces) else np.concatenate(pieces)
    family.fit(module, inputs, whole, targets.get("weight"))
    module.eval()
