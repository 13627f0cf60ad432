"""The plainest PyTorch that computes what a loss of ours does: to be timed beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from other import Said
from torch import Tensor
from torch.nn import functional as F

from limbeck.term import Term

CLASSES = 2_000
Naive = Callable[[Term, Said, Said, Said], Tensor]
"""Of a term, and of what student, teacher and batch say."""


def divergence(both: Callable[[Tensor, Tensor], Tensor], temperature: float = 1.0) -> Naive:
    """Of the softened distributions of `logits`, as (student's log q, teacher's log p) -> (B,)."""

    def naive(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
        pair = (F.log_softmax(said["logits"] / temperature, 1) for said in (student, teacher))
        return temperature**2 * both(*pair).mean()

    return naive


def kl_of(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of logarithms."""
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)


def mixed(p: Tensor, q: Tensor, share: float) -> Tensor:
    return (share * p.exp() + (1 - share) * q.exp()).log()


def jsd(q: Tensor, p: Tensor) -> Tensor:
    middle = mixed(p, q, 0.5)
    return 0.5 * kl_of(p, middle) + 0.5 * kl_of(q, middle)


def standardised(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    pair = [(z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True) / 2 for z in (student["logits"], teacher["logits"])]
    return 4 * kl_of(F.log_softmax(pair[1], 1), F.log_softmax(pair[0], 1)).mean()


def correlated(a: Tensor, b: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)).mean()


def dist(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = (F.softmax(said["logits"], 1) for said in (student, teacher))
    return correlated(q, p) + correlated(q.T, p.T)


def listwise(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    there = batch["targets"] >= 0
    seen = torch.zeros(len(there), CLASSES + 1, dtype=torch.bool)
    seen = seen.scatter(1, batch["targets"].where(there, CLASSES), True)[:, :-1]
    q, p = (F.log_softmax(said["scores"].masked_fill(seen, -1e9), 1) for said in (student, teacher))
    return kl_of(p, q).mean()


def calibrated(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = (F.log_softmax(F.logsigmoid(said["scores"]), 1) for said in (student, teacher))
    return kl_of(p, q).mean()


def margins(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    targets = batch["targets"]
    there = targets >= 0
    owned = torch.zeros(len(there), CLASSES + 1).scatter(1, targets.where(there, CLASSES), 1.0)[:, :-1]
    mine, theirs = (
        said["scores"].gather(1, targets.clamp(min=0)).unsqueeze(2) - said["scores"].unsqueeze(1)
        for said in (student, teacher)
    )
    pairs = there.unsqueeze(2) * (1 - owned).unsqueeze(1)
    return (((mine - theirs).square() * pairs).sum((1, 2)) / pairs.sum((1, 2))).mean()


def catalogue(_term: Term, student: Said, _teacher: Said, batch: Said) -> Tensor:
    there = batch["targets"] >= 0
    found = F.log_softmax(student["scores"], 1).gather(1, batch["targets"].clamp(min=0))
    return -((found * there).sum(1) / there.sum(1)).mean()


def states(loss: Callable[[Tensor, Tensor], Tensor]) -> Naive:
    """Of the tapped states, the student's projected where the term does."""

    def naive(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
        mine, theirs = term.pairs(student, teacher)[0]  # type: ignore[operator]
        return loss(mine, theirs)

    return naive


def similarity(mine: Tensor, theirs: Tensor) -> Tensor:
    grams = [F.normalize(x.flatten(1) @ x.flatten(1).T, dim=1) for x in (mine, theirs)]
    return (grams[0] - grams[1]).square().sum() / len(mine) ** 2


def attention(mine: Tensor, theirs: Tensor) -> Tensor:
    axis = 1 if mine.ndim == 4 else 2
    maps = [F.normalize(x.square().mean(axis).flatten(1)) for x in (mine, theirs)]
    return (maps[0] - maps[1]).square().mean()


def soft_binary(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    return F.binary_cross_entropy_with_logits(student["logits"], teacher["logits"].sigmoid())


def decoupled(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    label = F.one_hot(batch["label"], student["logits"].shape[1]).bool()
    (q, q_rest), (p, p_rest) = (
        (F.softmax(said["logits"] / 4, 1), F.log_softmax(said["logits"] / 4 - 1000 * label, 1))
        for said in (student, teacher)
    )
    both = [torch.stack([(x * label).sum(1), (x * ~label).sum(1)], 1).log() for x in (p, q)]
    return 16 * (kl_of(*both) + 8 * kl_of(p_rest, q_rest)).mean()


def pixels(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = (F.log_softmax(said["pixels"], 1) for said in (student, teacher))
    return kl_of(p, q).mean()


def policy(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    return kl_of(F.log_softmax(teacher["values"] / 0.01, 1), F.log_softmax(student["logits"], 1)).mean()


def attacked(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = F.log_softmax(student["attacked"] / 30, 1), F.log_softmax(teacher["logits"] / 30, 1)
    return 900 * kl_of(p, q).mean()


def channel_wise(mine: Tensor, theirs: Tensor) -> Tensor:
    q, p = (F.log_softmax(x.flatten(2), 2) for x in (mine, theirs))
    return F.kl_div(q, p, reduction="none", log_target=True).sum(2).mean()


def channels(mine: Tensor, theirs: Tensor) -> Tensor:
    flat = (x.flatten(2) if x.ndim == 4 else x.transpose(1, 2) for x in (mine, theirs))
    grams = [F.normalize(x @ x.transpose(1, 2), dim=2) for x in flat]
    return (grams[0] - grams[1]).square().sum(2).mean()


def correlated_maps(mine: Tensor, theirs: Tensor) -> Tensor:
    return correlated(*(x.transpose(0, 1).flatten(1) for x in (mine, theirs)))


def neighbours(mine: Tensor, theirs: Tensor) -> Tensor:
    kernels = [(1 + x @ x.T) / 2 for x in (F.normalize(states.flatten(1)) for states in (mine, theirs))]
    q, p = (kernel / kernel.sum(1, keepdim=True) for kernel in kernels)
    return (p * ((p + 1e-7) / (q + 1e-7)).log()).mean()


def congruent(mine: Tensor, theirs: Tensor) -> Tensor:
    cosines = [x @ x.T for x in (F.normalize(states.flatten(1)) for states in (mine, theirs))]
    kernels = [0.44932896 * (1 + 0.8 * x + 0.32 * x**2) for x in cosines]
    return (kernels[0] - kernels[1]).square().mean()


def related(mine: Tensor, theirs: Tensor) -> Tensor:
    flat = [x.flatten(1) for x in (mine, theirs)]
    lengths = [torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") for x in flat]
    lengths = [x / x[x > 0].mean() for x in lengths]
    directions = [F.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2) for x in flat]
    angles = [x @ x.transpose(1, 2) for x in directions]
    return 25 * F.smooth_l1_loss(*lengths) + 50 * F.smooth_l1_loss(*angles)


NAIVE: dict[str, Naive] = {
    "kl": divergence(lambda q, p: kl_of(p, q), 4.0),
    "reverse_kl": divergence(lambda q, p: kl_of(q, p)),
    "generalised_jsd": divergence(jsd),
    "skewed_kl": divergence(lambda q, p: kl_of(p, mixed(p, q, 0.1))),
    "total_variation": divergence(lambda q, p: 0.5 * (q.exp() - p.exp()).abs().sum(1)),
    "standardised_kl": standardised,
    "dist": dist,
    "listwise_kl": listwise,
    "calibrated_listwise": calibrated,
    "margin_mse": margins,
    "catalogue_cross_entropy": catalogue,
    "cross_entropy": lambda _t, student, _k, batch: F.cross_entropy(student["logits"], batch["label"]),
    "squared_error": lambda _t, student, teacher, _b: F.mse_loss(student["values"], teacher["values"]),
    "fit_net": states(F.mse_loss),
    "cosine_embedding": states(lambda s, t: 1 - F.cosine_similarity(s, t, -1).mean()),
    "similarity_preserving": states(similarity),
    "attention_transfer": states(attention),
    "soft_binary": soft_binary,
    "decoupled_kl": decoupled,
    "pixel_kl": pixels,
    "policy_kl": policy,
    "ard": attacked,
    "channel_wise": states(channel_wise),
    "inter_channel": states(channels),
    "pearson_maps": states(correlated_maps),
    "probabilistic_transfer": states(neighbours),
    "correlation_congruence": states(congruent),
    "relational": states(related),
}
"""Plain forms, as they are usually written: without the guards for what is infinite, absent or of half precision."""
