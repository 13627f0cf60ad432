"""Several teachers: the student follows each as far as it is worth it on that row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.divergence import FLOOR, likelihood, softened
from limbeck.errors import UserError
from limbeck.setting import above_zero, at_least_zero
from limbeck.slope import sloped
from limbeck.term import RowTerm


def several_kl(student: Tensor, teachers: Tensor, weight: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 * sum_k w_k KL(softmax(t_k / T) || softmax(s / T)).

    Its gradient is that of one divergence from the teachers' weighed mean of probabilities.

    Args:
        student: raw logits, (B, C).
        teachers: raw logits of each, (B, K, C); -inf is a class one rules out; no gradient reaches them.
        weight: of each, (B, K), 0 or more; made to add to 1.
        temperature: T > 0.

    Returns:
        (B,), nats.

    Source: You et al. 2017 (learning from multiple teachers), equation 2; T as in Hinton et al. 2015.

    >>> same = torch.tensor([[1.0, 3.0]])
    >>> several_kl(same, torch.stack([same, same], 1), torch.ones(1, 2)).item()
    0.0
    """
    share = weight.detach().float()
    share = share / share.sum(1, keepdim=True).clamp(min=1e-30)
    return temperature * sloped(partial(_weighed, temperature=temperature))(student, teachers, share)


def _weighed(
    student: Tensor, teachers: Tensor, share: Tensor, *, temperature: float
) -> tuple[Tensor, Callable[[], Tensor]]:
    q_log, p_log = softened(student.unsqueeze(1), teachers, temperature, least=FLOOR)
    share = share.to(q_log.dtype)
    p = p_log.exp()
    losses = (share * p_log.sub_(q_log).mul_(p).sum(2)).sum(1)
    return temperature * losses, lambda: likelihood(q_log.squeeze(1)).sub_((share.unsqueeze(1) @ p).squeeze(1))


def confidence(teachers: Tensor, label: Tensor) -> Tensor:
    """(1 - softmax_k(CE_k)) / (K - 1): a teacher counts for more the less it errs on the label.

    Args:
        teachers: raw logits of each, (B, K, C).
        label: positions, (B,), -1 without a label: there all count alike.

    Returns:
        (B, K), adding to 1.

    Source: Zhang, Chen, Wang 2022 (CA-MKD), equation 4.

    >>> confidence(torch.zeros(1, 2, 3), torch.tensor([0])).tolist()
    [[0.5, 0.5]]
    """
    count = teachers.shape[1]
    logs = torch.log_softmax(teachers.detach().float(), 2)
    wrong = -logs.gather(2, label.clamp(min=0)[:, None, None].expand(-1, count, 1)).squeeze(2)
    # A label that is ruled out is as wrong as can be, and two such teachers are equally so.
    weight = (1 - torch.softmax(wrong.clamp(max=1e4), 1)) / max(1, count - 1)
    return torch.where((label >= 0).unsqueeze(1), weight, 1 / count) if count > 1 else torch.ones_like(weight)


class SeveralKl(RowTerm):
    """For teachers that are good at different rows: they are the members of an `ensemble` that keeps them `apart`.

    Where weights are the same for all rows, take `kl` and the ensemble's mean in the space of probabilities: at
    T = 1 its gradient is the same, and it is cheaper.

    | reads | from |
    |---|---|
    | `logits.0` (B, C) | teacher |
    | `logits.1` (B, C), and so on | teacher |
    | `share` (B, K), where they count as the ensemble weighs them | teacher |
    | `logits` (B, C) | student |
    | `label` positions (B,), where teachers count by confidence | batch |

    Args:
        temperature: T, of all.
        by: `fixed`: as `weights` has it; `confidence`: by how little each errs on the row's label; `ensemble`: as the
            ensemble weighs them, which may be by their worth on validation rows (its `weights: validation`), or by a
            column that sends each row to one of them (its `route`), such as the teacher of the row's language.
        weights: one a teacher, for `fixed`; by default all count alike.
        signal: the name of the logits; the teachers' have a number behind a dot.
    """

    group: ClassVar[str] = "several"
    paper: ClassVar[str] = "You et al. 2017; Zhang et al. 2022"

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        by: Literal["fixed", "confidence", "ensemble"] = "fixed",
        weights: tuple[float, ...] | None = None,
        signal: str = "logits",
    ) -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        if by not in ("fixed", "confidence", "ensemble"):
            raise UserError(f"by is '{by}'; it must be fixed, confidence or ensemble")
        if weights is not None and (by != "fixed" or not sum(at_least_zero("weights", w) for w in weights) > 0):
            raise UserError(f"weights are {list(weights)} and by is '{by}'; weights go with fixed, and one is above 0")
        self.by = by
        self.weights = weights
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        found: list[Tensor] = []
        while f"{self.signal}.{len(found)}" in teacher:
            found.append(teacher[f"{self.signal}.{len(found)}"].float())
        if not found:
            raise UserError(
                f"several_kl reads '{self.signal}.0', '{self.signal}.1' and so on, of all classes, and the teacher "
                "does not say them; make it an ensemble with `apart: true`, labelled without 'top'"
            )
        teachers = torch.stack(found, 1)
        weight = self._weight(teachers, teacher, batch)
        return several_kl(student[self.signal], teachers, weight, temperature=self.temperature)

    def _weight(self, teachers: Tensor, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        if self.by == "confidence":
            return confidence(teachers, batch["label"])
        rows, count = teachers.shape[:2]
        weight = (
            teacher["share"].float() if self.by == "ensemble" else teachers.new_tensor(self.weights or (1.0,) * count)
        )
        if weight.shape[-1] != count:
            raise UserError(f"there are {weight.shape[-1]} weights for {count} teachers")
        return weight.expand(rows, count)
