"""Batches that are learnt from in parts, one after the other or in several processes: what each part counts for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from limbeck.live import Said
from limbeck.objective import Company, Objective, nobody
from limbeck.weight import Source


class Later(Mapping[str, Tensor]):
    """What a teacher, and those beside the student, say of some rows; each is asked once, at the first look.

    Args:
        ask: the teacher, of these rows.
        others: those beside the student, of these rows.
    """

    def __init__(self, ask: Callable[[], Said], others: Company = nobody) -> None:
        self._ask = ask
        self._others = others
        self._told: dict[Source, Sequence[Mapping[str, Tensor]]] = {}

    def company(self, source: Source) -> Sequence[Mapping[str, Tensor]]:
        """What those beside the student say."""
        if source not in self._told:
            self._told[source] = self._others(source)
        return self._told[source]

    def later(self, source: Source) -> Sequence[Mapping[str, Tensor]]:
        """The first of those beside the student, who is asked at the first look."""
        return [Later(lambda: self.company(source)[0])]

    @cached_property
    def said(self) -> Said:
        """All of it."""
        return self._ask()

    @property
    def tail_temperatures(self) -> tuple[float, ...]:
        """Those of top-k knowledge."""
        return getattr(self.said, "tail_temperatures", ())

    def __getitem__(self, name: str) -> Tensor:
        return self.said[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.said)

    def __len__(self) -> int:
        return len(self.said)


def shares_of(
    objective: Objective,
    parts: Sequence[tuple[Mapping[str, Tensor], Later]],
    gather: Callable[[Tensor], Tensor],
) -> list[Mapping[str, Tensor]]:
    """What each part of a batch counts for in each term.

    With these shares the sums over parts, and over processes, of an objective's values and gradients are those of
    the whole batch, however unevenly labels, weights and steps fall. Terms that compare rows with one another share
    by rows.

    Args:
        objective: as it counts at this step.
        parts: the batch's rows in this process, and what the teacher says of each part: it is asked ahead only where
            what counts hangs on its answers, and they are then held until the part is learnt from.
        gather: the sum of a vector over all processes.

    Returns:
        One mapping a part, as `Objective.forward` takes it; 0 where nothing counts at all.
    """
    with torch.no_grad():
        counted = [objective.denominators(said, part, said.later) for part, said in parts]
        amounts = torch.stack([torch.stack([*one.values()]) for one in counted])
        totals = gather(amounts.sum(0))
        shares = torch.where(totals > 0, amounts / totals, 0.0)
    return [dict(zip(counted[0], row, strict=True)) for row in shares]
