"""Candidates: the items of which a teacher says something, its best of them, and some of the others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.bucketed import LOW
from limbeck.slope import sloped
from limbeck.term import RowTerm

SPREAD = 80.0
"""Between logarithms of which float32 still holds the sum and its inverse."""


class ListTerm(RowTerm):
    """A loss over the items of a row's list: all of the catalogue, or the stored candidates.

    | reads | from |
    |---|---|
    | `scores` (B, N), or `scores.ids` and `scores.values` (B, M) | teacher |
    | `scores` (B, N) | student |
    | `targets` (B, L), where `mask_seen` | batch |

    Args:
        mask_seen: leave out the row's own targets; what a user already has is never recommended.
        signal: the name of the scores.
    """

    group: ClassVar[str] = "ranking"

    def __init__(self, *, mask_seen: bool = True, signal: str = "scores") -> None:
        super().__init__()
        self.mask_seen = mask_seen
        self.signal = signal

    @abstractmethod
    def losses(self, student: Tensor, teacher: Tensor) -> Tensor:
        """What each row loses.

        Args:
            student: scores of the row's items, (B, M).
            teacher: scores of the same items, (B, M), without gradient; -inf where an item is left out.

        Returns:
            (B,).
        """

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """What each row loses."""
        mine, theirs, _ = listed(student, teacher, signal=self.signal, seen=self.seen(batch))
        return self.losses(mine, theirs)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A row with no item left does not count."""
        return told(teacher, signal=self.signal, seen=self.seen(batch))[0].amax(1) > float("-inf")

    def seen(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The targets that are left out, if they are."""
        return batch["targets"] if self.mask_seen else None


def told(teacher: Mapping[str, Tensor], *, signal: str, seen: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """What a teacher says of the items of a list.

    Args:
        teacher: says `signal`, (B, N), or, of the M items it was asked for, `signal.ids` and `signal.values`.
        signal: the name of the scores.
        seen: positions in the catalogue that are left out, (B, L), padded with -1.

    Returns:
        Its scores (B, M), float32, without gradient, -inf for none; the items' positions in the catalogue, none
        where the list is the catalogue.
    """
    if f"{signal}.ids" in teacher:
        ids = teacher[f"{signal}.ids"].long()
        scores = teacher[f"{signal}.values"].detach().float().masked_fill(ids < 0, float("-inf"))
    else:
        ids, scores = None, teacher[signal].detach().float()
    if seen is not None:
        scores = scores.masked_fill(owned(seen, scores, ids), float("-inf"))
    return scores, ids


def listed(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], *, signal: str, seen: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What student and teacher say of the same items.

    Args:
        student: says `signal`, (B, N).
        teacher: says it too, of all or of some, as for `told`.
        signal: the name of the scores.
        seen: positions in the catalogue that are left out, (B, L), padded with -1.

    Returns:
        The student's scores (B, M), and what `told` gives.
    """
    scores, ids = told(teacher, signal=signal, seen=seen)
    mine = student[signal]
    return mine if ids is None else mine.gather(1, ids.clamp(min=0)), scores, ids


def owned(targets: Tensor, scores: Tensor, ids: Tensor | None) -> Tensor:
    """Which items of a list are among a row's targets.

    Args:
        targets: positions in the catalogue, (B, L), padded with -1.
        scores: of the list, (B, M).
        ids: the list's positions in the catalogue; none where it is the catalogue.

    Returns:
        Bool, (B, M).
    """
    if ids is not None:
        return ((ids.unsqueeze(2) == targets.unsqueeze(1)) & (targets >= 0).unsqueeze(1)).any(2)
    found = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    rows, places = torch.nonzero(targets >= 0, as_tuple=True)
    found[rows, targets[rows, places]] = True
    return found


def best(teacher: Tensor, top: int) -> Tensor:
    """Places of the teacher's best items in a list, in falling order.

    Args:
        teacher: scores, (B, M); -inf where an item is left out.
        top: how many, K.

    Returns:
        (B, min(K, M)), -1 where a row has fewer.

    >>> best(torch.tensor([[0.0, 2.0, float("-inf"), 1.0]]), 4).tolist()
    [[1, 3, 0, -1]]
    """
    values, places = teacher.topk(min(top, teacher.shape[1]), 1)
    return places.masked_fill(torch.isneginf(values), -1)


def others(teacher: Tensor, taken: Tensor, count: int) -> Tensor:
    """Places of items that are not taken, drawn evenly; all of them where there are no more than asked for.

    Args:
        teacher: scores, (B, M); -inf where an item is left out.
        taken: places, (B, K), each once, of items that are not left out; -1 for none.
        count: how many, U.

    Returns:
        (B, min(U, M)), -1 where a row has fewer.
    """
    out = torch.isneginf(teacher)
    if _few((~out).sum(1) - (taken >= 0).sum(1), count):
        return _all(~(out | _marked(taken, teacher.shape[1])), count)
    chance = torch.rand_like(teacher).masked_fill_(out, float("-inf"))
    # Each is lowered to -inf, and nothing by a place of -1.
    least = torch.where(taken >= 0, float("-inf"), float("inf")).to(chance.dtype)
    return best(chance.scatter_reduce_(1, taken.clamp(min=0), least, "amin"), count)


def drawn(logs: Tensor, count: int) -> Tensor:
    """Places drawn without replacement, in proportion to weights.

    Args:
        logs: of the weights, (B, M); -inf is never drawn.
        count: how many, U.

    Returns:
        (B, min(U, M)), -1 where a row has fewer; in no order, but rising where all that can be are drawn.

    Source: Gumbel noise and the largest U, Kool, van Hoof, Welling 2019.
    """
    free = ~torch.isneginf(logs)
    if _few(free.sum(1), count):
        return _all(free, count)
    # An exponential divided by its weight: the least of these are the greatest of logs with Gumbel noise.
    return best(logs - torch.empty_like(logs).exponential_().clamp_(min=1e-30).log_(), count)


def at(scores: Tensor, places: Tensor) -> Tensor:
    """Scores at places, as float32; whatever stands first where a place is -1.

    Args:
        scores: (B, M).
        places: (B, K).
    """
    return scores.gather(1, places.clamp(min=0)).float()


def ordered(student: Tensor, first: Tensor, rest: Tensor) -> Tensor:
    """-log of the chance to draw the first items in their order, out of them and the rest, by the student's scores.

    -sum_k [s_k - log(sum_{j >= k} e^{s_j} + sum_{u in rest} e^{s_u})]; the order of the rest does not matter.

    Args:
        student: scores, (B, M).
        first: places in the order wanted, (B, K), padded at the end with -1.
        rest: places, (B, U), padded with -1.

    Returns:
        (B,), nats, summed over K; 0 where there is nothing to draw.

    >>> round(ordered(torch.zeros(1, 3), torch.tensor([[0, 1]]), torch.tensor([[2]])).item(), 4)  # log 3 + log 2
    1.7918
    """
    places = torch.cat([first, rest], 1)
    scores = at(student, places).masked_fill(places < 0, LOW)
    return sloped(_ordered)(scores, first >= 0)


def _ordered(scores: Tensor, there: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """Of the scores (B, K + U), LOW where there is none, and of which of the K there are."""
    count = there.shape[1]
    mass = _gathered(scores.flip(1)).flip(1)[:, :count]

    def slope() -> Tensor:
        # Of an item the sum over k, up to its own place, of its share e^(s - mass_k).
        before = _gathered((-mass).masked_fill(~there, LOW))
        before = torch.cat([before, before[:, -1:].expand(-1, scores.shape[1] - count)], 1)
        pull = (scores + before).exp_()
        pull[:, :count] -= there.to(pull.dtype)
        return pull

    return torch.where(there, mass - scores[:, :count], 0.0).sum(1), slope


def _gathered(logs: Tensor) -> Tensor:
    """The logarithm of the sum of each and all before it; of what is LOW nothing is added."""
    most = logs.amax(1, keepdim=True)
    # Torch's own costs thirty times as much on a CPU; it is needed where float32 cannot hold the sums.
    if float((most - logs.where(logs > LOW / 2, most)).max()) > SPREAD:
        return logs.logcumsumexp(1)
    return (logs - most).exp_().cumsum(1).log_() + most


def _few(left: Tensor, count: int) -> bool:
    """Whether no row has more left, (B,), than are asked for: then no chance is spent on them."""
    return not len(left) or int(left.max()) <= count


def _all(free: Tensor, count: int) -> Tensor:
    """The places that are free, (B, min(count, M)), rising."""
    chosen, places = torch.topk(free.float(), min(count, free.shape[1]), 1)
    return places.masked_fill(chosen == 0, -1).sort(1).values


def _marked(places: Tensor, items: int) -> Tensor:
    """Which of the items stand at a place, bool (B, items)."""
    spare = torch.zeros(len(places), items + 1, dtype=torch.bool, device=places.device)
    return spare.scatter_(1, places.where(places >= 0, items), True)[:, :-1]
