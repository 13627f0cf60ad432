"""Cosine embedding: the student's states point where the teacher's do."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from limbeck.projection import axis
from limbeck.term import HiddenRowTerm


def cosine_embedding(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos(student, teacher).

    Args:
        student: states in the teacher's shape: (B, D), (B, T, D) or (B, C, H, W).
        teacher: states; no gradient reaches them.

    Returns:
        (B, places), in [0, 2]; 1 where a state is 0.

    Source: the third loss of Sanh et al. 2019 (DistilBERT).

    >>> import torch
    >>> cosine_embedding(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])).tolist()
    [[1.0]]
    """
    cosines = functional.cosine_similarity(student.float(), teacher.detach().float(), dim=axis(student))
    return 1 - cosines.reshape(len(student), -1)


class CosineEmbedding(HiddenRowTerm):
    """For embeddings that are compared by cosine, and for states whose lengths mean nothing; else `fit_net`.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Sanh et al. 2019"

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """1 - cos a place."""
        return cosine_embedding(student, teacher)
