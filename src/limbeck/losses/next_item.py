"""Next item: cross-entropy over the catalogue at every step of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.encoder import RESERVED
from limbeck.steps import negative_log_likelihood
from limbeck.term import RowTerm


def next_item(steps: Tensor, history: Tensor) -> Tensor:
    """-log softmax of the item that came next, at every step that has a next.

    Args:
        steps: scores after each step, (B, T, N); step t has read items 0 to t.
        history: ids, (B, T), padded on the right with 0; known items from 2.

    Returns:
        (B,), nats, summed over a row's steps that count.

    Source: Kang and McAuley 2018 (SASRec) with the full softmax in place of sampled negatives, as
    Klenitskiy and Vasilev 2023 recommend.
    """
    return negative_log_likelihood(steps[:, :-1], history[:, 1:] - RESERVED)


class NextItem(RowTerm):
    """The hard loss of sequence models.

    | reads | from |
    |---|---|
    | `steps` (B, T, N), which sequence models say while they train | student |
    | `history` (B, T) | batch |
    """

    paper: ClassVar[str] = "Kang and McAuley 2018"
    needs_teacher = False

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row, summed over its steps that count."""
        return next_item(student["steps"], torch.as_tensor(batch["history"]))

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """How many steps of each row have a next."""
        return (torch.as_tensor(batch["history"])[:, 1:] >= RESERVED).sum(1)
