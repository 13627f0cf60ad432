"""Next item: cross-entropy over the catalogue at every step of a sequence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.encoder import RESERVED
from limbeck.objective import Term


def next_item(steps: Tensor, history: Tensor) -> Tensor:
    """-log softmax of the item that came next, at every step that has a next.

    Args:
        steps: scores after each step, (B, T, N); step t has read items 0 to t.
        history: ids, (B, T), padded on the right with 0; known items from 2.

    Returns:
        Scalar, nats, mean over the steps counted; 0 where there is none.

    Source: Kang and McAuley 2018 (SASRec) with the full softmax in place of sampled negatives, as
    Klenitskiy and Vasilev 2023 recommend.
    """
    following = history[:, 1:]
    there = following >= RESERVED
    chosen = steps[:, :-1][there].float()
    loss = functional.cross_entropy(chosen, following[there] - RESERVED, reduction="sum")
    return loss / there.sum().clamp(min=1)


class NextItem(Term):
    """The hard loss of sequence models.

    | reads | from |
    |---|---|
    | `steps` (B, T, N), which sequence models say while they train | student |
    | `history` (B, T) | batch |
    """

    needs_teacher = False

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, nats, mean over steps."""
        return next_item(student["steps"], torch.as_tensor(batch["history"]))
