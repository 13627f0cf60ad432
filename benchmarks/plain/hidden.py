"""Plain forms of losses on hidden states."""

from __future__ import annotations

import math

import torch
from other import Said
from torch import Tensor
from torch.nn import functional as F

from limbeck.term import Term
from plain.form import Naive, kl_of, pair, states
from plain.response import correlated


def similarity(mine: Tensor, theirs: Tensor) -> Tensor:
    grams = [F.normalize(x.flatten(1) @ x.flatten(1).T, dim=1) for x in (mine, theirs)]
    return (grams[0] - grams[1]).square().sum() / len(mine) ** 2


def attention(mine: Tensor, theirs: Tensor) -> Tensor:
    axis = 1 if mine.ndim == 4 else 2
    maps = [F.normalize(x.square().mean(axis).flatten(1)) for x in (mine, theirs)]
    return (maps[0] - maps[1]).square().mean()


def channel_wise(mine: Tensor, theirs: Tensor) -> Tensor:
    q, p = (F.log_softmax(x.flatten(2), 2) for x in (mine, theirs))
    return kl_of(p, q).mean()


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


def near(mine: Tensor, theirs: Tensor) -> Tensor:
    cosines = [x @ x.T for x in (F.normalize(mine), F.normalize(theirs))]
    return F.mse_loss(*cosines)


def regions(mine: Tensor, theirs: Tensor) -> Tensor:
    greatest = [F.normalize(F.adaptive_max_pool2d(x, 2).flatten(2)) for x in (mine, theirs)]
    return F.mse_loss(*(x.transpose(1, 2) @ x for x in greatest))


def selective(mine: Tensor, theirs: Tensor) -> Tensor:
    s, t = (F.normalize(x.flatten(2), dim=2) for x in (mine, theirs))
    kernels = [(a @ b.transpose(1, 2)).square().mean() for a, b in ((s, s), (t, t), (s, t))]
    return kernels[0] + kernels[1] - 2 * kernels[2]


def standardised_states(mine: Tensor, theirs: Tensor) -> Tensor:
    s, t = (F.batch_norm(x, None, None, training=True) for x in (mine, theirs))
    return (s - t).abs().pow(4).mean().log()


def looked(query: Tensor, key: Tensor) -> Tensor:
    """How twelve heads look at one another's tokens, (B, 12, T, T)."""
    query, key = (x.unflatten(2, (12, -1)).transpose(1, 2) for x in (query, key))
    return query @ key.transpose(2, 3) / math.sqrt(query.shape[3])


def by_row(values: Tensor, there: Tensor) -> Tensor:
    """The mean over rows of that over what is there of each."""
    values, there = values.flatten(1), there.flatten(1)
    return ((values * there).sum(1) / there.sum(1).clamp(min=1)).mean()


def relations(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    there = batch["mask"] > 0
    scores = (looked(x, x).masked_fill(~there[:, None, None], -1e9) for x in pair(term, student, teacher))
    q, p = (F.log_softmax(x, 3) for x in scores)
    return by_row(kl_of(p, q).mean(1), there)


def layers(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    there, theirs = batch["mask"] > 0, teacher["hidden.body"]
    mine = term.projections[0](student["hidden.body"], theirs)  # type: ignore[index, operator]
    scores = (looked(said["hidden.query"], said["hidden.key"]) for said in (student, teacher))
    apart = F.mse_loss(*scores, reduction="none").mean(1)
    tokens = F.mse_loss(mine, theirs, reduction="none").mean(2)
    return by_row(tokens, there) + by_row(apart, there.unsqueeze(1) & there.unsqueeze(2))


def overhauled(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    mine, theirs = pair(term, student, teacher)
    wanted = torch.max(theirs, term.margin0.view(1, -1, 1, 1))  # type: ignore[operator]
    losses = F.mse_loss(mine, wanted, reduction="none") * ((mine > wanted) | (wanted > 0)).float()
    return losses.sum() / len(mine)


def foretold(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    mine, theirs = pair(term, student, teacher)
    variance = (F.softplus(term.scales[0]) + 1e-5).view(1, -1, 1, 1)  # type: ignore[index]
    return (0.5 * ((mine - theirs).square() / variance + variance.log())).mean()


def generated(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    mine, theirs = pair(term, student, teacher)
    seen = (torch.rand(mine.shape[2:]) >= 0.65).float()
    return F.mse_loss(term.generators[0](mine * seen), theirs, reduction="sum") / len(mine)  # type: ignore[index, operator]


def reviewed(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    """As the authors of ReviewKD write their pyramid."""
    mine, theirs = pair(term, student, teacher)
    mine = term.fusions[0](mine, None, theirs)[0]  # type: ignore[index, operator]
    loss, weight, total = F.mse_loss(mine, theirs), 1.0, 1.0
    for level in (4, 2, 1):
        weight /= 2
        total += weight
        loss = loss + weight * F.mse_loss(*(F.adaptive_avg_pool2d(x, level) for x in (mine, theirs)))
    return loss / total


def experts(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    one, count = term.projections[0], term.experts  # type: ignore[index]
    mine, theirs = student["hidden.body"], teacher["hidden.body"]
    noise = -torch.empty(count).exponential_().log()  # type: ignore[arg-type]
    share = F.softmax(F.log_softmax(one.gate(theirs), 1) + noise, 1)
    inner, leave = (x.unflatten(1, (count, -1)) for x in (one.enter(mine).relu(), one.leave.weight))
    answers = torch.einsum("bem,tem->bet", inner, leave) + one.shift
    return ((share.unsqueeze(2) * answers).sum(1) - theirs).square().sum(1).mean()


def objects_of(boxes: Tensor, high: int, wide: int) -> Tensor:
    """1 / area where boxes lie, the greatest where several do, (B, H, W); a box without area is padding."""
    real = (boxes.clamp(0, 1)[..., 2:] > boxes.clamp(0, 1)[..., :2]).all(2)[..., None, None]
    left, top, right, bottom = (boxes.clamp(0, 1) * torch.tensor([wide, high, wide, high])).unbind(2)
    left, top, right, bottom = (x[..., None, None] for x in (left.floor(), top.floor(), right.ceil(), bottom.ceil()))
    x, y = torch.arange(wide), torch.arange(high).unsqueeze(1)
    inside = real & (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return (inside / ((right - left) * (bottom - top)).clamp(min=1)).amax(1)


def looks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The attention of FGD over places, (B, H, W), and channels, (B, C)."""
    size = maps.abs()
    places = F.softmax(size.mean(1).flatten(1) / 0.5, 1).view_as(size[:, 0]) * size[0, 0].numel()
    return places, F.softmax(size.mean((2, 3)) / 0.5, 1) * size.shape[1]


def focal(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    mine, theirs = pair(term, student, teacher)
    objects = objects_of(batch["boxes"], *theirs.shape[2:])
    ground = (objects == 0).float()
    ground = ground / ground.sum((1, 2), keepdim=True).clamp(min=1)
    (own_places, own_channels), (places, channels) = looks(mine), looks(theirs)
    apart = ((mine - theirs).square() * channels[..., None, None] * places.unsqueeze(1)).sum(1)
    near, far = (apart * objects).sum(), (apart * ground).sum()
    look = (own_places - places).abs().sum() + (own_channels - channels).abs().sum()
    whole = F.mse_loss(*(term.contexts[i](x) for i, x in enumerate((mine, theirs))), reduction="sum")  # type: ignore[index, operator]
    return (1e-3 * near + 5e-4 * far + 1e-3 * look + 5e-6 * whole) / len(mine)


def queued(term: Term, student: Said, teacher: Said, _batch: Said) -> Tensor:
    """As MoCo and SEED keep their queue: copied for the graph, and written over in place."""
    mine, theirs = (F.normalize(x) for x in pair(term, student, teacher))
    queue = term.queue0.clone()  # type: ignore[operator]
    q, p = (
        torch.cat([(x * theirs).sum(1, keepdim=True), x @ queue.T], 1) / temperature
        for x, temperature in ((mine, 0.2), (theirs, 0.01))
    )
    start = int(term.next)  # type: ignore[arg-type]
    term.queue0[start : start + len(theirs)] = theirs  # type: ignore[index, operator]
    term.next = (start + torch.tensor(len(theirs))) % len(queue)
    return F.kl_div(F.log_softmax(q, 1), F.softmax(p, 1), reduction="batchmean")


def contrasted(term: Term, student: Said, teacher: Said, batch: Said) -> Tensor:
    """Both sides as anchors, beside all that the other's memory holds of other rows."""
    one, id = term.contrasts[0], batch["id"]  # type: ignore[index]
    said = [x.flatten(2).mean(2) for x in pair(term, student, teacher)]
    mine, theirs = (F.normalize(embed(x)) for embed, x in zip(one.maps, said, strict=True))
    slot = id % term.slots  # type: ignore[operator]
    met = (one.owner[slot] == id).unsqueeze(1)
    one.owner[slot] = id
    for bank, new in ((one.student, mine), (one.teacher, theirs)):
        bank[slot] = F.normalize(torch.where(met, 0.5 * bank[slot] + 0.5 * new.detach(), new.detach()))
    others = (one.owner >= 0) & (one.owner != id.unsqueeze(1))
    scale = others.sum(1, keepdim=True).clamp(min=1).log() + 1 / (2 * mine.shape[1] * 0.07**2)
    loss = mine.new_zeros(())
    for anchor, bank in ((mine, one.teacher), (theirs, one.student)):
        own = (anchor * bank[slot]).sum(1, keepdim=True) / 0.07 - scale
        far = anchor @ bank.T / 0.07 - scale
        loss = loss - (F.logsigmoid(own).sum(1) + (F.logsigmoid(-far) * others).sum(1)).mean()
    return loss


HIDDEN: dict[str, Naive] = {
    "fit_net": states(F.mse_loss),
    "cosine_embedding": states(lambda s, t: 1 - F.cosine_similarity(s, t).mean()),
    "similarity_preserving": states(similarity),
    "attention_transfer": states(attention),
    "channel_wise": states(channel_wise),
    "inter_channel": states(channels),
    "pearson_maps": states(correlated_maps),
    "probabilistic_transfer": states(neighbours),
    "correlation_congruence": states(congruent),
    "relational": states(related),
    "topology": states(near),
    "structural": states(regions),
    "neuron_selectivity": states(selective),
    "srd": states(standardised_states),
    "minilm_relations": relations,
    "tiny_bert": layers,
    "overhaul": overhauled,
    "variational_information": foretold,
    "masked_generative": generated,
    "review": reviewed,
    "distillation_experts": experts,
    "focal_global": focal,
    "queue_kl": queued,
    "contrastive_representation": contrasted,
}
