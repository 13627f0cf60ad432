"""Our objectives beside torchdistill's: values and gradients on random inputs, and why some differ by a factor.

    python -m venv peers && peers/bin/pip install -e '.[train]' && peers/bin/pip install --no-deps torchdistill==1.1.5
    peers/bin/python benchmarks/peers.py

Without its dependencies, for torchvision must not be where Limbeck is developed; the losses alone do not need it.
TRL, Liger and sentence-transformers are compared by the tests. A line says by what theirs is multiplied, or turned
into, to be ours. Exit code 1 where one is not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchdistill.losses import mid_level

from limbeck.losses.attention_transfer import attention_transfer
from limbeck.losses.contrastive_representation import contrastive_representation
from limbeck.losses.correlation_congruence import correlation_congruence
from limbeck.losses.cross_entropy import cross_entropy
from limbeck.losses.dist import dist
from limbeck.losses.inter_channel import inter_channel
from limbeck.losses.kl import kl
from limbeck.losses.probabilistic_transfer import probabilistic_transfer
from limbeck.losses.relational import relational_angle, relational_distance
from limbeck.losses.review import review
from limbeck.losses.srd import srd
from limbeck.losses.standardised_kl import standardised_kl
from limbeck.losses.variational_information import variational_information

B, C, D = 8, 41, 12
Loss = Callable[[Tensor], Tensor]
PATHS = {
    f"{who}_module_{what}": value for who in ("student", "teacher") for what, value in (("path", ""), ("io", "io"))
}


class Shared(NamedTuple):
    """One objective that both have: what ours says of the student's tensor, and theirs once it is made ours."""

    name: str
    student: Tensor
    ours: Loss
    theirs: Loss
    why: str = "the same"
    tolerance: float = 1e-5


def io(value: object) -> dict[str, dict[str, object]]:
    """What a part at the path "" says, as torchdistill hands it to its losses."""
    return {"": {"io": value, "output": value, "input": value}}


def said(loss: Any, teacher: object, *targets: Tensor) -> Loss:
    return lambda student: loss(io(student), io(teacher), *targets)


def pair(**settings: object) -> dict[str, Any]:
    """Its settings for one pair of parts."""
    return {"pair": {"student": {"path": "", "io": "io"}, "teacher": {"path": "", "io": "io"}, **settings}}


def logits() -> Iterator[Shared]:
    student, teacher = 2 * torch.randn(2, B, C)
    label, heat = torch.randint(C, (B,)), 4.0
    bare = said(mid_level.KDLoss(temperature=heat, beta=1.0, **PATHS), teacher)
    yield Shared(
        "kl",
        student,
        lambda s: kl(s, teacher, temperature=heat).mean(),
        lambda s: heat**2 * bare(s),
        "x T^2: without alpha or labels it returns the divergence as it is",
    )
    yield Shared(
        "0.3 cross_entropy + 0.7 kl",
        student,
        lambda s: (0.3 * cross_entropy(s, label) + 0.7 * kl(s, teacher, temperature=heat)).mean(),
        said(mid_level.KDLoss(temperature=heat, alpha=0.3, **PATHS), teacher, label),
    )
    narrower = heat * math.sqrt((C - 1) / C)
    standard = said(mid_level.LogitStdKDLoss(temperature=narrower, beta=1.0, **PATHS), teacher)
    yield Shared(
        "standardised_kl",
        student,
        lambda s: standardised_kl(s, teacher, temperature=heat).mean(),
        lambda s: heat**2 * standard(s),
        "x T^2, at T sqrt((C-1)/C): its deviation divides by C-1, the paper's by C",
    )
    yield Shared(
        "dist",
        student,
        lambda s: dist(s, teacher),
        said(mid_level.DISTLoss(**PATHS), teacher),
        "the same at T = 1, but for 1e-8 below its fractions",
        1e-3,
    )
    warm = said(mid_level.DISTLoss(tau=2.0, **PATHS), teacher)
    yield Shared(
        "dist, T = 2",
        student,
        lambda s: dist(s, teacher, temperature=2.0),
        lambda s: warm(s) / 4,
        "/ T^2: a correlation's gradient does not shrink with T",
        1e-3,
    )


def maps() -> Iterator[Shared]:
    student, teacher = torch.randn(2, B, D, 6, 6)
    yield Shared(
        "attention_transfer",
        student,
        lambda s: attention_transfer(s, teacher).mean(),
        said(mid_level.ATLoss(pair(weight=1), mode="code"), teacher),
    )
    channels = said(mid_level.ChSimLoss(pair()), teacher)
    yield Shared(
        "inter_channel",
        student,
        lambda s: inter_channel(s, teacher).mean(),
        lambda s: B * channels(s),
        "x B: it divides by B^2",
    )
    pyramid = mid_level.HierarchicalContextLoss(**PATHS)
    yield Shared(
        "review",
        student,
        lambda s: review(s, teacher).mean(),
        lambda s: pyramid(io((s, None)), io(teacher)),
    )
    variance = torch.rand(D) + 0.5
    informed = mid_level.VIDLoss(pair())
    yield Shared(
        "variational_information",
        student,
        lambda s: variational_information(s, teacher, variance).mean(),
        lambda s: informed(io((s, variance.view(-1, 1, 1))), io(teacher)),
    )
    flat = [F.batch_norm(states, None, None, training=True) for states in (student, teacher)]
    least = mid_level.SRDLoss(
        **{f"{who}_{what}_module_{end}": value for who in ("student", "teacher") for what in ("feature", "linear")
           for end, value in (("path", "" if what == "feature" else "head"), ("io", "io"))},
        exponent=4.0,
    )  # fmt: skip
    nothing = {"head": {"io": torch.zeros(B, C)}}
    yield Shared(
        "srd",
        student,
        lambda s: srd(s, teacher),
        lambda s: (
            least(io(F.batch_norm(s, None, None, training=True)) | nothing, io(flat[1]) | nothing) / 2
            - math.log(student.numel())
        ),
        "/ 2 - log n: a sum where ours is a mean, doubled; it adds a KL without T^2 (here 0) and does not standardise",
        1e-4,
    )


def relations() -> Iterator[Shared]:
    student, teacher = torch.randn(2, B, D)
    outputs = {"student_output_path": "", "teacher_output_path": ""}
    yield Shared(
        "probabilistic_transfer",
        student,
        lambda s: probabilistic_transfer(s, teacher),
        said(mid_level.PKTLoss(**PATHS), teacher),
        tolerance=1e-4,
    )
    yield Shared(
        "relational",
        student,
        lambda s: 25 * relational_distance(s, teacher) + 50 * relational_angle(s, teacher),
        said(mid_level.RKDLoss(**outputs, dist_factor=25, angle_factor=50, reduction="mean"), teacher),
        tolerance=1e-4,
    )
    gamma, order = 0.4, 2
    kernel = {"type": "gaussian", "gamma": gamma, "max_p": order}
    congruence = mid_level.CCKDLoss("", "", kernel, reduction="batchmean")
    yield Shared(
        "correlation_congruence",
        student,
        lambda s: correlation_congruence(s, teacher, gamma=gamma, order=order),
        lambda s: (B * congruence(io(F.normalize(s)), io(F.normalize(teacher)))) ** 2,
        "(B x)^2: a root of the sum over B^2, where the paper's is the sum; states must come normalised",
        1e-4,
    )
    similar = mid_level.SPKDLoss(**outputs, reduction="batchmean")
    yield Shared(
        "not similarity_preserving",
        student,
        lambda s: (_rows(s) - _rows(teacher)).square().mean(),
        said(similar, teacher),
        "ours and the paper's divide rows by their length, theirs by their sum of sizes: F.normalize's p is 1",
    )
    yield contrast()


def _rows(states: Tensor) -> Tensor:
    return F.normalize(states @ states.T, p=1, dim=1)


def contrast() -> Shared:
    rows, negatives, heat = 64, 20, 0.1
    loss = mid_level.CRDLoss(
        "", "", "", D, rows, num_negative_samples=negatives, num_samples=rows, temperature=heat, momentum=0.5, eps=0.0
    )
    here = torch.arange(B)
    drawn = torch.stack([torch.randperm(rows)[: negatives + 1] for _ in range(B)])
    drawn = torch.stack([torch.cat([i[None], row[row != i][:negatives]]) for i, row in zip(here, drawn, strict=True)])
    banks = [F.normalize(torch.randn(rows, D)) for _ in range(2)]
    student, teacher = (F.normalize(torch.randn(B, D)) for _ in range(2))
    others = torch.zeros(B, rows, dtype=torch.bool).scatter(1, drawn[:, 1:], True)

    def ours(student: Tensor) -> Tensor:
        both = ((student, banks[1]), (teacher, banks[0]))
        return sum(
            contrastive_representation(anchor, bank[here], bank, others, temperature=heat).mean()
            for anchor, bank in both
        )  # type: ignore[return-value]  # of two tensors

    def theirs(student: Tensor) -> Tensor:
        loss.memory_v1, loss.memory_v2 = (bank.clone() for bank in banks)
        loss.params[2:4] = rows * math.exp(1 / (2 * D * heat**2))
        found: Tensor = loss(
            {"": {"output": student, "input": {"pos_idx": here, "contrast_idx": drawn}}}, {"": {"output": teacher}}
        )
        return found

    why = "the same once its normaliser, taken from its first batch, is set to what it estimates; its draw() is broken"
    return Shared("contrastive_representation", student, ours, theirs, why, 1e-4)


def apart(one: Shared) -> float:
    """The greatest relative difference of values and gradients."""
    leaves = [one.student.clone().requires_grad_() for _ in range(2)]
    values = [loss(leaf).squeeze() for loss, leaf in zip((one.ours, one.theirs), leaves, strict=True)]
    gradients = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    both = (values, gradients)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in both)


def main() -> int:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    missed = 0
    for one in (*logits(), *maps(), *relations()):
        found = apart(one)
        missed += found > one.tolerance
        print(f"{'held  ' if found <= one.tolerance else 'MISSED'} {one.name:32}{found:10.1e}  {one.why}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
