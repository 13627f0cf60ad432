"""Channel-wise distillation: each channel of a map is active where the teacher's is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from limbeck.divergence import forward_kl
from limbeck.setting import above_zero
from limbeck.term import HiddenRowTerm


def channel_wise(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """T^2 * KL(p || q), mean over channels, p and q softmax(x / T) over a channel's H x W places.

    Args:
        student: maps, (B, C, H, W).
        teacher: maps of the same shape; no gradient reaches them.
        temperature: T > 0; higher looks at a larger part of a map.

    Returns:
        (B,), nats.

    Source: Shu, Liu, Gao, Yan, Shen 2021 (CWD), equation 4.

    >>> import torch
    >>> channel_wise(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[2.0, 4.0]]]])).item()
    0.0
    """
    return forward_kl(student.flatten(2), teacher.flatten(2), temperature=temperature).mean(1)


class ChannelWise(HiddenRowTerm):
    """For segmentation and detection: where each channel looks, not how strongly; prefer it to `fit_net` on maps.

    Tap the layer that says the class maps (usual weight 3 to 5 for segmentation), or stages of a pyramid (10 for
    detection). Maps with as many channels as the teacher's are compared as they are; others are mapped first.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, C, H, W) | student, teacher |

    Args:
        temperature: T of the softmax over places.
    """

    group: ClassVar[str] = "detection"
    paper: ClassVar[str] = "Shu et al. 2021"
    pictured: ClassVar[bool] = True
    kept: ClassVar[bool] = True

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], temperature: float = 1.0) -> None:
        super().__init__(student=student, teacher=teacher)
        self.temperature = above_zero("temperature", temperature)

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row."""
        return channel_wise(student, teacher, temperature=self.temperature)
