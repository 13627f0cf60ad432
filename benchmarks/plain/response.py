"""Plain forms of losses on answers: distributions, numbers, forecasts, boxes and texts."""

from __future__ import annotations

import math

import torch
from other import Said
from torch import Tensor
from torch.nn import functional as F

from limbeck.term import Term
from plain.form import Naive, divergence, kl_of


def mixed(p: Tensor, q: Tensor, share: float) -> Tensor:
    return (share * p.exp() + (1 - share) * q.exp()).log()


def jsd(q: Tensor, p: Tensor) -> Tensor:
    middle = mixed(p, q, 0.5)
    return 0.5 * kl_of(p, middle) + 0.5 * kl_of(q, middle)


def alpha_beta(q: Tensor, p: Tensor, alpha: float = 0.2, beta: float = 0.7) -> Tensor:
    both, (p, q) = alpha + beta, (p.exp(), q.exp())
    terms = p**alpha * q**beta - alpha / both * p**both - beta / both * q**both
    return -terms.sum(1) / (alpha * beta)


def standardised(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    both = [said["logits"] for said in (student, teacher)]
    both = [(z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True, correction=0) / 2 for z in both]
    return 4 * kl_of(F.log_softmax(both[1], 1), F.log_softmax(both[0], 1)).mean()


def correlated(a: Tensor, b: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)).mean()


def dist(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = (F.softmax(said["logits"], 1) for said in (student, teacher))
    return correlated(q, p) + correlated(q.T, p.T)


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


def sampled(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    """Of the best and of some that were drawn from the others: all share the mass that the tail leaves."""
    ids, top = teacher["logits.ids"].long(), teacher["logits.ids"].shape[1] - term.sampled  # type: ignore[operator]
    q = F.softmax(student["logits"], 1).gather(1, ids)
    p = F.softmax(teacher["logits.values"], 1) * (1 - teacher["logits.tail"])
    (p_best, p_drawn), (q_best, q_drawn) = (x.tensor_split([top], 1) for x in (p, q))
    p_rest, q_rest = (1 - x.sum(1, keepdim=True) for x in (p_best, q_best))
    merged = (p_best * (p_best / q_best).log()).sum(1) + (p_rest * (p_rest / q_rest).log()).squeeze(1)
    ratio = q_drawn / q_rest / (p_drawn / p_rest)
    each = (student["logits"].shape[1] - top) / p_drawn.shape[1]
    return (merged + each * (p_drawn * (ratio - 1 - ratio.log())).sum(1)).mean()


def several(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q = F.log_softmax(student["logits"] / 4, 1)
    teachers = [F.log_softmax(value / 4, 1) for name, value in teacher.items() if name.startswith("logits.")]
    return 16 * sum((kl_of(p, q).mean() for p in teachers), q.new_zeros(())) / len(teachers)


def policy(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    return kl_of(F.log_softmax(teacher["values"] / 0.01, 1), F.log_softmax(student["logits"], 1)).mean()


def attacked(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = F.log_softmax(student["attacked"] / 30, 1), F.log_softmax(teacher["logits"] / 30, 1)
    return 900 * kl_of(p, q).mean()


def robust(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    p = F.log_softmax(teacher["logits"], 1)
    strong, clean = (kl_of(p, F.log_softmax(student[name], 1)).mean() for name in ("attacked", "logits"))
    return 5 / 6 * strong + 1 / 6 * clean


def generator(_term: Term, student: Said, _teacher: Said, _batch: Said) -> Tensor:
    logits = student["logits"]
    classes = F.softmax(logits, 1).mean(0)
    sure = F.cross_entropy(logits, logits.argmax(1))
    stirred = student["embedding"].abs().mean()
    return 0.05 * sure - 0.01 * stirred + 5 / math.log(10) * (classes * classes.log()).sum()


def bounded(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = ((said["values"] - batch["values"]).square() for said in (student, teacher))
    return torch.where(mine > theirs, mine, 0.0).mean()


def pinball(apart: Tensor) -> Tensor:
    """Of how far outcomes lie above the quantiles .1, .5 and .9, (B, 3, outcomes)."""
    levels = torch.tensor([0.1, 0.5, 0.9]).unsqueeze(1)
    return torch.maximum(levels * apart, (levels - 1) * apart)


def quantiles(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    losses = pinball(teacher["quantiles"].unsqueeze(1) - student["quantiles"].unsqueeze(2))
    return (losses * torch.tensor([0.3, 0.4, 0.3])).sum(2).mean()


def hard_quantiles(_term: Term, student: Said, _teacher: Said, batch: Said) -> Tensor:
    return pinball(batch["values"][:, None, None] - student["quantiles"].unsqueeze(2)).mean()


def worth(_term: Term, student: Said, _teacher: Said, batch: Said) -> Tensor:
    (odds, level, spread), truth = student["distribution"].unbind(1), batch["values"]
    there = (truth > 0).float()
    logs = truth.where(truth > 0, 1.0).log()
    amount = F.gaussian_nll_loss(level, logs, (2 * spread).exp(), reduction="none", eps=0.0)
    return F.binary_cross_entropy_with_logits(odds, there) + (there * amount).mean()


def horizon(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    weights = 0.95 ** torch.arange(student["values"].shape[1])
    return (F.mse_loss(student["values"], teacher["values"], reduction="none") * weights / weights.sum()).sum(1).mean()


def multi_scale(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    mine, theirs = (said["values"].unsqueeze(1) for said in (student, teacher))
    rhythms = [torch.fft.rfft(x)[..., 1:].abs() / 0.5 for x in (mine, theirs)]
    errors = [F.mse_loss(mine, theirs)]
    while len(errors) <= 3 and mine.shape[2] > 1:
        mine, theirs = F.avg_pool1d(mine, 2), F.avg_pool1d(theirs, 2)
        errors.append(F.mse_loss(mine, theirs))
    q, p = (F.log_softmax(x, 2) for x in rhythms)
    return torch.stack(errors).mean() + 0.25 * kl_of(p, q).mean()


def by_picture(values: Tensor, counts: Tensor) -> Tensor:
    """The mean over pictures of that over their boxes or pixels that count, (B, ...)."""
    values, inside = values.flatten(1), counts.flatten(1) > 0
    return ((values * inside).sum(1) / inside.sum(1)).mean()


def pixels(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    q, p = (F.log_softmax(said["pixels"], 1) for said in (student, teacher))
    return by_picture(F.kl_div(q, p, reduction="none", log_target=True).sum(1), batch["mask"])


def crossed(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    wanted = teacher["classes"].sigmoid()
    losses = F.binary_cross_entropy_with_logits(student["crossed"], wanted, reduction="none")
    return by_picture((losses * (student["crossed"].sigmoid() - wanted).abs()).sum(2), batch["inside"])


def edges(_term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    q, p = (F.log_softmax(said["edges"] / 10, 3) for said in (student, teacher))
    return by_picture(100 * kl_of(p, q).mean(2), batch["inside"])


def next_item(_term: Term, student: Said, _teacher: Said, batch: Said) -> Tensor:
    following = (batch["history"][:, 1:] - 2).flatten()
    return F.cross_entropy(student["steps"][:, :-1].flatten(0, 1), following, ignore_index=-2)


def texts(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    return F.cross_entropy(student["steps"].flatten(0, 1), teacher["tokens"].flatten(), ignore_index=-1)


def vocabularies(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    q, p = (F.softmax(said["steps"], 2).sort(2, descending=True).values for said in (student, teacher))
    return (q - p).abs().sum(2).mean()


def linear_head(_term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    logits = F.linear(*(student[f"{part}.body"] for part in ("input", "weight", "bias")))
    return kl_of(F.log_softmax(teacher["logits"], 1), F.log_softmax(logits, 1)).mean()


RESPONSE: dict[str, Naive] = {
    "kl": divergence(lambda q, p: kl_of(p, q), 4.0),
    "reverse_kl": divergence(lambda q, p: kl_of(q, p)),
    "generalised_jsd": divergence(jsd),
    "skewed_kl": divergence(lambda q, p: kl_of(p, mixed(p, q, 0.1))),
    "alpha_beta": divergence(alpha_beta),
    "total_variation": divergence(lambda q, p: 0.5 * (q.exp() - p.exp()).abs().sum(1)),
    "standardised_kl": standardised,
    "sampled_kl": sampled,
    "several_kl": several,
    "dist": dist,
    "soft_binary": soft_binary,
    "decoupled_kl": decoupled,
    "cross_entropy": lambda _t, student, _k, batch: F.cross_entropy(student["logits"], batch["label"]),
    "squared_error": lambda _t, student, teacher, _b: F.mse_loss(student["values"], teacher["values"]),
    "teacher_bounded": bounded,
    "quantile": quantiles,
    "hard_quantile": hard_quantiles,
    "zero_inflated_log_normal": worth,
    "horizon_weighted": horizon,
    "multi_scale": multi_scale,
    "policy_kl": policy,
    "teacher_action": lambda _t, s, teacher, _b: F.cross_entropy(s["logits"], teacher["values"].argmax(1)),
    "ard": attacked,
    "rslad": robust,
    "dafl_generator": generator,
    "pixel_kl": pixels,
    "cross_head": crossed,
    "localisation": edges,
    "next_item": next_item,
    "sequence_kd": texts,
    "uld": vocabularies,
    "linear_head": linear_head,
}
