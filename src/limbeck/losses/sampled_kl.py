"""KL from sampled logits: top-k knowledge with some entries drawn from the rest teaches the tail without bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.bucketed import LOW, tail_at
from limbeck.divergence import Divergence, forward_kl, tempered
from limbeck.errors import UserError
from limbeck.piecewise import RowLoss
from limbeck.slope import sloped


def sampled_kl(
    student: Tensor, ids: Tensor, values: Tensor, tail: Tensor, *, top: int, temperature: float = 1.0
) -> Tensor:
    """T^2 * (KL over the best and one bucket + R / m * sum over drawn c of p_c (r_c - 1 - log r_c)).

    R counts the classes beside the best, m those drawn of them; r_c is q_c beside p_c, each as a share of the R.
    The first part is exact. The second is the divergence within the bucket: over all R the sum of p_c (r_c - 1) is
    0, so it changes nothing but the noise, which vanishes as the student nears its teacher. Each class is drawn
    with the chance m / R, so the mean over draws, and that of the gradient, are those of `kl`.

    Args:
        student: raw logits of q, (B, C).
        ids: classes, (B, K), -1 where padded: the best, then those drawn evenly from the others.
        values: the teacher's raw logits there, (B, K); no gradient reaches them.
        tail: the teacher's mass outside them at this temperature, (B,), in [0, 1].
        top: how many of the K are the best.
        temperature: T > 0.

    Returns:
        (B,), nats, never below 0.

    Source: Anshumann et al. 2025 (Sparse Logit Sampling), who draw with replacement in proportion to p and weigh
    by counts. Stores draw evenly, without replacement, beside the best: so the weights here are those of Horvitz
    and Thompson 1952, the chain rule of KL takes the masses, which stores know, out of the estimate, and r - 1 -
    log r is Schulman's form of it. Draws are one for all epochs: the mean over rows is unbiased, not one row's.
    R counts all classes of the student, so rows in which the teacher rules classes out weigh their tail too high.

    >>> ids, values = torch.tensor([[0, 1, 2]]), torch.tensor([[2.0, 1.0, 0.0]])
    >>> sampled_kl(values, ids, values, torch.zeros(1), top=1).abs().item() < 1e-6
    True
    """
    return temperature * sloped(partial(_sampled, top=top, temperature=temperature))(student, ids, values, tail)


def _sampled(
    student: Tensor, ids: Tensor, values: Tensor, tail: Tensor, *, top: int, temperature: float
) -> tuple[Tensor, Callable[[], Tensor]]:
    scaled, there, tail = tempered(student, temperature), ids >= 0, tail.float().clamp(0.0, 1.0)
    p_log = torch.log_softmax((values.float() / temperature).masked_fill(~there, LOW), 1)
    p_log = (p_log + torch.log1p(-tail.clamp(max=1 - 1e-7)).unsqueeze(1)).masked_fill(~there, LOW)
    p, rest = p_log.exp(), (tail + p_log[:, top:].exp().sum(1)).clamp(max=1.0)
    rest_log = rest.clamp(min=1e-30).log()
    q, whole = _shares(scaled)
    # Without the best; nothing is struck out by a place of -1.
    least = torch.where(there[:, :top], LOW, torch.inf).to(scaled.dtype)
    within, others = _shares(scaled.scatter_reduce(1, ids[:, :top].clamp(min=0), least, "amin"))
    # Where no class is left over, rounding may still have left the teacher some tail: the price is bounded.
    q_rest = (others - whole).clamp(min=-1e4)
    q_log = scaled.gather(1, ids.clamp(min=0)) - whole.unsqueeze(1)
    merged = torch.where(p > 0, p * (p_log - q_log), 0.0)[:, :top].sum(1) + rest * (rest_log - q_rest)
    best, drawn = p[:, :top], p[:, top:]
    q_drawn, p_drawn = q_log[:, top:] - q_rest.unsqueeze(1), p_log[:, top:] - rest_log.unsqueeze(1)
    # Where nothing is left outside, all were drawn: each stands for itself, and no noise is to be quieted.
    sampled = tail > 0
    weight = torch.where(sampled, (student.shape[1] - there[:, :top].sum(1)) / there[:, top:].sum(1).clamp(min=1), 1.0)
    noisy = there[:, top:] & sampled.unsqueeze(1)
    quiet = torch.where(noisy, rest.unsqueeze(1) * q_drawn.exp() - drawn, 0.0)
    each = torch.where(drawn > 0, drawn * (p_drawn - q_drawn), 0.0) + quiet

    def slope() -> Tensor:
        pull = weight.unsqueeze(1) * torch.where(noisy, quiet, -drawn)
        down = torch.where(others - whole > -1e4, -rest - pull.sum(1), 0.0)
        found = q.addcmul_(within, down.unsqueeze(1))
        return found.scatter_add_(1, ids.clamp(min=0), torch.cat([-best, pull], 1).to(found.dtype))

    return temperature * (merged + weight * each.sum(1)), slope


def _shares(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax, and the logarithm of the sum, which is that of the greatest less the logarithm of its share."""
    share = torch.softmax(logits, 1)
    return share, logits.amax(1) - share.amax(1).log()


class SampledKl(Divergence):
    """For stores of top-k knowledge that also keep drawn entries: unlike `kl`, it also teaches how the tail ranks.

    From whole logits it is `kl`.

    | reads | from |
    |---|---|
    | `logits` (B, C) or (B, T, C), or `logits.ids`, `.values` (.., K) and `.tail` | teacher |
    | `logits` (B, C) or (B, T, C) | student |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        sampled: how many of the stored entries were drawn, as the recipe's knowledge says; 0 makes it `kl`.
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Anshumann et al. 2025"

    def __init__(self, *, sampled: int = 0, temperature: float = 1.0, signal: str = "logits") -> None:
        super().__init__(temperature=temperature, signal=signal)
        if sampled < 0:
            raise UserError(f"sampled is {sampled}; it must be 0 or more")
        self.sampled = sampled

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Nats a row, from whole logits."""
        return forward_kl(student, teacher, temperature=self.temperature)

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Builds nothing, but looks whether the store holds what `sampled` says.

        Raises:
            UserError: it holds no more entries, or those before the drawn ones do not fall as the best do.
        """
        super().size(student, teacher, batch)
        if f"{self.signal}.values" not in teacher:
            return
        values = teacher[f"{self.signal}.values"].float()
        top = values.shape[-1] - self.sampled
        if top < 1 or (values[..., :top].nan_to_num(neginf=LOW).diff(dim=-1) > 0).any():
            raise UserError(
                f"sampled is {self.sampled}, but that is not how many of the {values.shape[-1]} stored entries of "
                f"'{self.signal}' were drawn; say the number that the knowledge was stored with"
            )

    def beside(self, teacher: Mapping[str, Tensor]) -> tuple[RowLoss, list[Tensor]]:
        """How rows lose beside whole logits, or beside some that are the best and some that were drawn."""
        if f"{self.signal}.ids" not in teacher or not self.sampled:
            return super().beside(teacher)
        ids, values = teacher[f"{self.signal}.ids"].long(), teacher[f"{self.signal}.values"]
        top = ids.shape[-1] - self.sampled
        loss = partial(sampled_kl, top=top, temperature=self.temperature)
        return loss, [ids, values, tail_at(teacher, self.signal, self.temperature)]
