"""Pearson maps: each channel rises and falls over a batch's places as the teacher's does, at whatever scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.term import HiddenTerm


def pearson_maps(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - rho, mean over channels, rho the correlation over all rows and places of a channel.

    Args:
        student: maps, (B, C, H, W).
        teacher: maps of the same shape; no gradient reaches them.

    Returns:
        Scalar, in [0, 2]; a channel that does not vary counts as not correlated.

    Source: Cao et al. 2022 (PKD), equation 3: half the squared error of standardised maps, which is this.

    >>> found = pearson_maps(torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[10.0, 11.0]]]]))
    >>> round(abs(found.item()), 6)
    0.0
    """
    mine, theirs = (_standard(maps) for maps in (student, teacher.detach()))
    return 1 - (mine * theirs).sum(1).mean()


def _standard(maps: Tensor) -> Tensor:
    """Each channel about 0 and of length 1, (C, B x H x W)."""
    channels = maps.float().transpose(0, 1).flatten(1)
    return functional.normalize(channels - channels.mean(1, keepdim=True), dim=1)


class PearsonMaps(HiddenTerm):
    """For detectors of different kinds, whose maps have different scales; prefer `channel_wise` on class maps.

    Tap the stages of both pyramids; usual weight 10. Maps with as many channels as the teacher's are compared as
    they are; others are mapped first. Rows are compared together, so their weights do not count.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, C, H, W) | student, teacher |
    """

    group: ClassVar[str] = "detection"
    paper: ClassVar[str] = "Cao et al. 2022"
    pictured: ClassVar[bool] = True
    kept: ClassVar[bool] = True

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, summed over pairs of parts."""
        return torch.stack([pearson_maps(*both) for both in self.pairs(student, teacher)]).sum()
