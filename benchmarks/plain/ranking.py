"""Plain forms of losses on lists of items."""

from __future__ import annotations

import torch
from other import Said
from torch import Tensor
from torch.nn import functional as F

from limbeck.term import Term
from plain.form import Naive, kl_of, known

Lists = tuple[Tensor, Tensor]


def lists(student: Said, teacher: Said, batch: Said, name: str = "scores") -> Lists:
    """Scores of both, the teacher's without the row's own items."""
    theirs = teacher[name]
    return student["scores"], theirs.masked_fill(known(batch, theirs.shape[1]), -torch.inf)


def drawn(theirs: Tensor, first: Tensor, count: int) -> Tensor:
    """As many other items than the first, (B, count), each as likely."""
    chance = torch.rand_like(theirs).masked_fill(theirs.isneginf(), -torch.inf)
    return chance.scatter(1, first, -torch.inf).topk(count, 1).indices


def ordered(first: Tensor, rest: Tensor) -> Tensor:
    """As the authors of RRD write it: of the scores of items in the order wanted, and of those below."""
    below = first.flip(1).exp().cumsum(1) + rest.exp().sum(1, keepdim=True)
    return (below.log().sum(1) - first.sum(1)).mean()


def listwise(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    seen = known(batch, student["scores"].shape[1])
    q, p = (F.log_softmax(said["scores"].masked_fill(seen, -1e9), 1) for said in (student, teacher))
    return kl_of(p, q).mean()


def calibrated(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = (F.log_softmax(F.logsigmoid(said["scores"]), 1) for said in (student, teacher))
    return kl_of(p, q).mean()


def margins(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    targets = batch["targets"]
    there, owned = targets >= 0, known(batch, student["scores"].shape[1])
    mine, theirs = (
        said["scores"].gather(1, targets.clamp(min=0)).unsqueeze(2) - said["scores"].unsqueeze(1)
        for said in (student, teacher)
    )
    pairs = there.unsqueeze(2) * (~owned).float().unsqueeze(1)
    return (((mine - theirs).square() * pairs).sum((1, 2)) / pairs.sum((1, 2))).mean()


def catalogue(_term: Term, student: Said, _teacher: Said, batch: Said) -> Tensor:
    there = batch["targets"] >= 0
    found = F.log_softmax(student["scores"], 1).gather(1, batch["targets"].clamp(min=0))
    return -((found * there).sum(1) / there.sum(1)).mean()


def relaxed(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = lists(student, teacher, batch)
    first = theirs.topk(term.top, 1).indices  # type: ignore[arg-type]
    return ordered(mine.gather(1, first), mine.gather(1, drawn(theirs, first, term.sampled)))  # type: ignore[arg-type]


def by_item(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    """Every item has as good as all rows; where few are left, drawing gives some that do not count."""
    mine, theirs = (x.T for x in lists(student, teacher, batch))
    first = theirs.topk(term.top, 1).indices  # type: ignore[arg-type]
    return ordered(mine.gather(1, first), mine.gather(1, drawn(theirs, first, term.sampled)))  # type: ignore[arg-type]


def stages(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    """Of the first of two stages, beside how far the student is from the second."""
    mine, following = lists(student, teacher, batch, "scores.1")
    with torch.no_grad():
        gain = 2 ** torch.exp(-torch.arange(term.top) / 10) - 1  # type: ignore[call-overload]
        discount = (torch.arange(term.top) + 2).log2()  # type: ignore[call-overload]
        out = following.isneginf()
        own, wanted = (x.topk(term.top, 1).indices for x in (mine.masked_fill(out, -torch.inf), following))
        worth = ((own.unsqueeze(2) == wanted.unsqueeze(1)) * gain).sum(2)
        term.recent = 0.9 * term.recent + 0.1 * (1 - (worth / discount).sum(1) / (gain / discount).sum()).mean()
    theirs = lists(student, teacher, batch, "scores.0")[1]
    first = theirs.topk(term.top, 1).indices  # type: ignore[arg-type]
    rest = mine.gather(1, drawn(theirs, first, term.sampled)).exp().sum(1, keepdim=True)  # type: ignore[arg-type]
    scores = mine.gather(1, first)
    return ((scores.exp() + rest).log() - scores).sum(1).mean()


def collaborative(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = lists(student, teacher, batch)
    first = theirs.topk(100, 1)
    chosen = torch.multinomial((-torch.arange(100) / 100).exp().expand(len(mine), 100), 50)
    label = (first.values.gather(1, chosen) / 2).sigmoid()
    scores = mine.gather(1, first.indices.gather(1, chosen))
    return F.binary_cross_entropy_with_logits(scores, label, reduction="none").sum(1).mean()


def corrected(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = lists(student, teacher, batch)
    out = theirs.isneginf()
    with torch.no_grad():
        own, wanted = (
            x.argsort(1, descending=True).argsort(1).float() for x in (mine.masked_fill(out, -torch.inf), theirs)
        )
        apart = (own - wanted).masked_fill(out, 0)
        low = torch.multinomial((0.1 * apart.clamp(min=0)).tanh(), 40)
        high = torch.multinomial((-0.1 * apart).clamp(min=0).tanh(), 40)
        low = low.gather(1, wanted.gather(1, low).argsort(1))
    return ordered(mine.gather(1, low), mine.gather(1, high))


def hinge(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = lists(student, teacher, batch)
    first = theirs.topk(20, 1).indices
    items = torch.cat([first, drawn(theirs, first, 40)], 1)
    gaps, wanted = (x[:, :20, None] - x[:, None] for x in (mine.gather(1, items), theirs.gather(1, items)))
    above = torch.ones(20, items.shape[1]).triu(1).bool()
    return (wanted - gaps)[:, above].relu().mean()


def distilled(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = lists(student, teacher, batch)
    first, place = theirs.topk(10, 1).indices, torch.arange(10)
    scores = mine.gather(1, first)
    with torch.no_grad():
        some = mine.gather(1, drawn(theirs, first[:, :0], 100))
        above = (some.unsqueeze(1) > scores.unsqueeze(2)).sum(2)
        rank = ((~theirs.isneginf()).sum(1, keepdim=True) * above / 100).floor()
        weight = F.softmax(-(place + 1.0), 0) * (0.1 * (rank - place).clamp(min=0)).tanh()
    return -(weight * F.logsigmoid(scores)).sum(1).mean()


def doubted(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = lists(student, teacher, batch)
    confidence, first = theirs.topk(10, 1)
    with torch.no_grad():
        own = mine.masked_fill(theirs.isneginf(), -torch.inf).topk(10, 1).indices
        agreed = (first.unsqueeze(2) == own.unsqueeze(1)).any(2)
        weight = 0.3 * F.softmax(-(torch.arange(10) + 1.0), 0) + 0.5 * confidence.softmax(1) + 0.1 * agreed
        weight = weight / weight.sum(1, keepdim=True)
    against = F.logsigmoid(-mine.gather(1, drawn(theirs, first, 1))).mean(1)
    return -((weight * F.logsigmoid(mine.gather(1, first))).sum(1) + against).mean()


def by_group(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    wanted = batch["targets"][batch["targets"] >= 0]
    term.popularity += torch.bincount(wanted, minlength=len(term.popularity))  # type: ignore[arg-type, operator]
    counts, order = term.popularity.sort(descending=True, stable=True)  # type: ignore[operator]
    group = torch.empty_like(order)
    group[order] = (4 * (counts.cumsum(0) - counts) / counts.sum()).long().clamp(max=3)
    mine, theirs = lists(student, teacher, batch)
    losses = []
    for one in group.unique():
        items = (group == one).nonzero().squeeze(1)
        values, first = theirs[:, items].topk(min(40, len(items)), 1)
        scores, there, place = mine[:, items].gather(1, first), values > -torch.inf, torch.arange(first.shape[1])
        weight = (-(place.unsqueeze(1) + place) / 20).exp().triu(1) * (there.unsqueeze(2) & there.unsqueeze(1))
        apart = scores.unsqueeze(2) - scores.unsqueeze(1)
        losses.append((-F.logsigmoid(apart) * weight).sum((1, 2)) / weight.sum((1, 2)))
    return torch.stack(losses).mean()


def candidates(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    hidden, weight, bias = (student[f"{part}.body"] for part in ("input", "weight", "bias"))
    ids = teacher["scores.ids"]
    owned = known(batch, len(weight)).gather(1, ids)
    scores = torch.einsum("bd,bmd->bm", hidden, weight[ids]) + bias[ids]
    q, p = (F.log_softmax(x.masked_fill(owned, -1e9), 1) for x in (scores, teacher["scores.values"]))
    return kl_of(p, q).mean()


RANKING: dict[str, Naive] = {
    "listwise_kl": listwise,
    "calibrated_listwise": calibrated,
    "margin_mse": margins,
    "catalogue_cross_entropy": catalogue,
    "relaxed_ranking": relaxed,
    "item_side_ranking": by_item,
    "easy_to_hard": stages,
    "collaborative_distillation": collaborative,
    "dual_correction": corrected,
    "pairwise_hinge": hinge,
    "ranking_distillation": distilled,
    "language_model_ranks": doubted,
    "unbiased_groups": by_group,
    "linear_candidates": candidates,
}
