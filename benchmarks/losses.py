"""What each loss costs, forward and backward, beside the plainest PyTorch that computes the same.

    python benchmarks/losses.py [NAME ...] [--rounds 7] [--no-big]

Signals are random, of the shapes that a loss says it reads: 128 rows, 2,000 classes, 16 steps, maps of 120 x 14 x 14.
Times are of this thread, taken in turns, and a ratio is the median of ratios, so that a busy machine moves both. Peak
memory is what tensors take at once beyond what stood there before. `big` is a linear head onto many classes: its time
beside the plain form's at 10,000, and what a process takes in all at 1,000,000.
"""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from bar import Bar, show
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck import parts
from limbeck.head import Head, fused
from limbeck.losses.kl import kl
from limbeck.objective import Term
from limbeck.testing import outputs

ROWS, CLASSES, SHORT = 128, 2_000, 0.5
TAPPED = {"student": "body", "teacher": "body"}
MILLION = """
import resource, torch
from limbeck.head import Head, fused
from limbeck.losses.kl import kl
torch.set_num_threads(1)
student = [torch.randn(512, 64), torch.randn(1_000_000, 64), torch.zeros(1_000_000)]
teacher = Head(torch.randn(512, 64), torch.randn(1_000_000, 64))
parts = [part.requires_grad_() for part in student]
(0.5 * fused(kl, Head(*parts), [teacher], share=torch.full((512,), 1 / 512))).backward()
print(int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 2**20)
"""
Said = Mapping[str, Tensor]
Naive = Callable[[Term, Said, Said, Said], Tensor]


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


NAIVE: dict[str, Naive] = {
    "kl": divergence(lambda q, p: kl_of(p, q), 4.0),
    "reverse_kl": divergence(lambda q, p: kl_of(q, p)),
    "generalised_jsd": divergence(jsd),
    "skewed_kl": divergence(lambda q, p: kl_of(p, mixed(p, q, 0.1))),
    "total_variation": divergence(lambda q, p: 0.5 * (q.exp() - p.exp()).abs().sum(1)),
    "standardised_kl": standardised,
    "dist": dist,
    "listwise_kl": listwise,
    "catalogue_cross_entropy": catalogue,
    "cross_entropy": lambda _t, student, _k, batch: F.cross_entropy(student["logits"], batch["label"]),
    "squared_error": lambda _t, student, teacher, _b: F.mse_loss(student["values"], teacher["values"]),
    "fit_net": states(F.mse_loss),
    "cosine_embedding": states(lambda s, t: 1 - F.cosine_similarity(s, t, -1).mean()),
    "similarity_preserving": states(similarity),
    "attention_transfer": states(attention),
}
"""Plain forms, as they are usually written: without the guards for what is infinite, absent or of half precision."""


@dataclass(frozen=True)
class Cost:
    """Of one loss.

    Args:
        ours, plain: milliseconds; NaN where there is no plain form.
        ratio: median of ours / plain.
        memory, beside: megabytes at the peak, ours and the plain form's.
    """

    ours: float
    plain: float
    ratio: float
    memory: float
    beside: float


def peak(work: Callable[[], object]) -> float:
    """Megabytes that tensors take at once."""
    with torch.profiler.profile(profile_memory=True) as watch:
        work()
    records = [one for one in watch.profiler.kineto_results.events() if one.name() == "[memory]"]  # type: ignore[union-attr]
    sizes = [one.nbytes() for one in sorted(records, key=lambda one: one.start_ns())]
    return float(max(np.cumsum([0, *sizes]))) / 2**20


def cost(ours: Callable[[], object], plain: Callable[[], object] | None, rounds: int) -> Cost:
    works = [ours, *([plain] if plain else [])]
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    for _ in range(rounds):
        for work, found in zip(works, times, strict=True):
            start = time.thread_time()
            work()
            found.append((time.thread_time() - start) * 1e3)
    memory = [peak(work) for work in works]
    if plain is None:
        return Cost(float(np.median(times[0])), np.nan, np.nan, memory[0], np.nan)
    ratio = float(np.median([a / b for a, b in zip(*times, strict=True)]))
    return Cost(float(np.median(times[0])), float(np.median(times[1])), ratio, memory[0], memory[1])


def step(loss: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """Forward and backward."""
    torch.manual_seed(0)
    for leaf in leaves:
        leaf.grad = None
    loss().backward()  # type: ignore[no-untyped-call]


def measured(name: str, rounds: int) -> Cost:
    needed = parts.settings_of(parts.get("losses", name)).items()
    term = parts.make("losses", name, {key: TAPPED[key] for key, none in needed if none is inspect.Parameter.empty})
    torch.manual_seed(0)
    said = signals(term)
    with torch.no_grad():
        term.size(said.student, said.teacher, said.batch)
    student = {key: value.requires_grad_(value.is_floating_point()) for key, value in said.student.items()}
    leaves = [value for value in (*student.values(), *term.parameters()) if value.is_floating_point()]
    plain = partial(NAIVE[name], term, student, said.teacher, said.batch) if name in NAIVE else None
    if plain is not None and not torch.isclose(plain(), term(student, said.teacher, said.batch), rtol=1e-3):
        raise ValueError(f"the plain form of {name} computes something else")
    ours = partial(step, partial(term, student, said.teacher, said.batch), leaves)
    return cost(ours, partial(step, plain, leaves) if plain else None, rounds)


def signals(term: Term) -> outputs.Outputs:
    """What the loss reads; of states the maps, or where rows are compared vectors, of answers those without steps."""
    version = -1 if term.student_taps and term.group not in ("ranking", "relation") else 0
    one = outputs.outputs_for(term, 1, CLASSES)[version]
    # Boxes, pixels and steps of 2,000 classes each would fill the memory.
    classes = (
        CLASSES
        if max(signal.numel() for name, signal in one.student.items() if not name.startswith("weight.")) <= 20 * CLASSES
        else 50
    )
    return outputs.outputs_for(term, ROWS, classes)[version]


def head(classes: int, rounds: int) -> Cost:
    """KL between two linear heads, 512 rows of 64 numbers, beside that of their logits."""
    torch.manual_seed(0)
    parts_ = [torch.randn(512, 64), torch.randn(classes, 64) / 8, torch.zeros(classes)]
    teacher = Head(torch.randn(512, 64), torch.randn(classes, 64) / 8)
    leaves = [part.requires_grad_() for part in parts_]
    share = torch.full((512,), 1 / 512)

    def plain() -> Tensor:
        logits = {"logits": nn.functional.linear(*leaves)}
        return NAIVE["kl"](Term, logits, {"logits": teacher.hidden @ teacher.weight.T}, {})  # type: ignore[arg-type]

    ours = partial(fused, kl, Head(*leaves), [teacher], share=share)
    return cost(partial(step, ours, leaves), partial(step, plain, leaves), rounds)


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("names", nargs="*", help="losses; by default all")
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--big", action=argparse.BooleanOptionalAction, default=True)
    told = asked.parse_args()
    torch.set_num_threads(1)
    outputs.LENGTH.update(T=16, H=14, W=14, D=120, L=20, K=16, M=100)
    outputs.TEACHERS.update(D=192, H=14, W=14)
    print(f"{'loss':28}{'ms':>10}{'plain ms':>10}{'ratio':>8}{'MB':>9}{'plain MB':>10}")
    bars: list[Bar] = []
    for name in told.names or parts.names("losses"):
        bars += line(name, measured(name, told.rounds), 1.2)
    if told.big:
        bars += line("linear head, 10,000", head(10_000, told.rounds), 1.15)
        ran = subprocess.run([sys.executable, "-c", MILLION], check=True, capture_output=True, text=True)
        bars.append(("linear head, 1,000,000: GB of the process", float(ran.stdout), "<", 1.5))
    return show(bars)


def line(name: str, found: Cost, bar: float) -> list[Bar]:
    """Print it; its bar, if there is a plain form that takes long enough for more than calls to be timed."""
    ours, plain, ratio, memory, beside = (getattr(found, field.name) for field in fields(found))
    print(f"{name:28}{ours:10.2f}{plain:10.2f}{ratio:8.2f}{memory:9.1f}{beside:10.1f}", flush=True)
    return [] if np.isnan(ratio) or plain < SHORT else [(f"{name} over its plain form", ratio, "<=", bar)]


if __name__ == "__main__":
    sys.exit(main())
