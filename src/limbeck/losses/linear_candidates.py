"""A loss over candidates through a linear head: of large catalogues, of which only candidates are scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from limbeck import parts
from limbeck.candidate import told
from limbeck.errors import UserError
from limbeck.head import head_of, picked
from limbeck.term import RowTerm, Term


class LinearCandidates(RowTerm):
    """For catalogues of 100,000 items and more: `listwise_kl`, or a sibling, at the cost of the candidates alone.

    | reads | from |
    |---|---|
    | `input.<path>` (B, D) | student |
    | `weight.<path>` (V, D) | student |
    | `bias.<path>` (V), where there is one | student |
    | `scores.ids` (B, M), ids | teacher |
    | `scores.values` (B, M) | teacher |
    | `targets` (B, L) positions, where `mask_seen` | batch |

    Args:
        student: path of the student's last linear part, such as the `head` of a ranker.
        ranking: the name of a loss over a row's list.
        mask_seen: leave out the row's own targets.
        signal: the name of the teacher's scores.
        alone: whether no other loss reads the answers of this head, so that they need not be computed at all.
        settings: of the ranking, such as `temperature`.
    """

    group: ClassVar[str] = "ranking"
    paper: ClassVar[str] = "Cao et al. 2007"

    def __init__(
        self,
        *,
        student: str,
        ranking: str = "listwise_kl",
        mask_seen: bool = True,
        signal: str = "scores",
        alone: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.student_heads = (student,)
        self.skipped_heads = self.student_heads if alone else ()
        self.mask_seen = mask_seen
        self.signal = signal
        own = parts.settings_of(parts.get("losses", ranking))
        bare = {"mask_seen": False} if "mask_seen" in own else {}
        inner = parts.make("losses", ranking, {**(settings or {}), **bare, "signal": signal})
        if not isinstance(inner, RowTerm) or type(inner).size is not Term.size:
            raise UserError(
                f"ranking is '{ranking}', which is no loss of a row's list alone; take one such as listwise_kl"
            )
        self.ranking = inner

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """What each row loses by the ranking."""
        values, ids = self._told(teacher, batch)
        scores = picked(head_of(student, self.student_heads[0]), ids.clamp(min=0))
        return self.ranking.rows({self.signal: scores}, {self.signal: values}, batch)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """For how much each row counts in the ranking."""
        return self.ranking.counts({self.signal: self._told(teacher, batch)[0]}, batch)

    def _told(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        if f"{self.signal}.ids" not in teacher:
            raise UserError(
                f"this loss reads candidates, and the teacher says '{self.signal}' of all: label with 'top'"
            )
        seen = batch["targets"] if self.mask_seen else None
        return told(teacher, signal=self.signal, seen=seen)[0], teacher[f"{self.signal}.ids"].long()
