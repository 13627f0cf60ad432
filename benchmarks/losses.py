"""What each loss costs, forward and backward, beside the plainest PyTorch that computes the same.

    python benchmarks/losses.py [NAME ...] [--rounds 7] [--no-big]

Signals are random, of the shapes that a loss says it reads: 128 rows, 2,000 classes, 16 steps, maps of 120 x 14 x 14.
Times are of this thread, taken in turns, and a ratio is the median of ratios, so that a busy machine moves both. Peak
memory is what tensors take at once beyond what stood there before. `big` is a linear head onto many classes: its time
beside the plain form's at 10,000, and what a process takes in all at 1,000,000. Where another package that is
importable has the loss, its time stands beside; that the values are the same is tested elsewhere.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from bar import Bar, show
from inputs import made, signals
from other import OTHERS, other
from plain import NAIVE
from torch import Tensor, nn

from limbeck import parts
from limbeck.head import Head, fused
from limbeck.losses.kl import kl
from limbeck.term import Term
from limbeck.testing import outputs

ROWS, SHORT = 128, 0.5
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
Work = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """Of one loss.

    Args:
        ours, plain: milliseconds; NaN where there is no plain form.
        ratio: median of ours / plain.
        memory, beside: megabytes at the peak, ours and the plain form's.
        other: milliseconds of another package's; NaN where none has it.
    """

    ours: float
    plain: float
    ratio: float
    memory: float
    beside: float
    other: float


def peak(work: Callable[[], object]) -> float:
    """Megabytes that tensors take at once."""
    with torch.profiler.profile(profile_memory=True) as watch:
        work()
    records = [one for one in watch.profiler.kineto_results.events() if one.name() == "[memory]"]  # type: ignore[union-attr]
    sizes = [one.nbytes() for one in sorted(records, key=lambda one: one.start_ns())]
    return float(max(np.cumsum([0, *sizes]))) / 2**20


def cost(ours: Work, plain: Work | None, rounds: int, other: Work | None = None) -> Cost:
    times: dict[Work, list[float]] = {work: [] for work in (ours, plain, other) if work}
    for work in times:
        work()
    for _ in range(rounds):
        for work, found in times.items():
            start = time.thread_time()
            work()
            found.append((time.thread_time() - start) * 1e3)
    mine, plainly, theirs = (times[work] if work else [np.nan] * rounds for work in (ours, plain, other))
    ratio = float(np.median([a / b for a, b in zip(mine, plainly, strict=True)]))
    memory = peak(ours), peak(plain) if plain else np.nan
    return Cost(float(np.median(mine)), float(np.median(plainly)), ratio, *memory, float(np.median(theirs)))


def seeded(loss: Callable[[], Tensor]) -> Tensor:
    """What is drawn at random is drawn alike."""
    torch.manual_seed(0)
    return loss()


def step(loss: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """Forward and backward."""
    for leaf in leaves:
        leaf.grad = None
    seeded(loss).backward()  # type: ignore[no-untyped-call]


def measured(name: str, rounds: int) -> Cost:
    term = made(name)
    torch.manual_seed(0)
    said = signals(name, term, ROWS)
    with torch.no_grad():
        term.size(said.student, said.teacher, said.batch)
    student = {key: value.requires_grad_(value.is_floating_point()) for key, value in said.student.items()}
    others = student, said.teacher, said.batch
    own = copy.deepcopy(term)
    plain = partial(NAIVE[name], own, *others) if name in NAIVE else None
    if plain and not torch.isclose(seeded(plain), seeded(partial(term, *others)), rtol=1e-3):
        raise ValueError(f"the plain form of {name} computes something else")
    # A loss's own maps learn too; those of the plain form are a copy.
    leaves = [leaf for leaf in (*student.values(), *term.parameters(), *own.parameters()) if leaf.requires_grad]
    losses = partial(term, *others), plain, other(name, term, student, said)
    works = [partial(step, loss, leaves) if loss else None for loss in losses]
    return cost(partial(step, losses[0], leaves), works[1], rounds, works[2])


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
    print(f"{'loss':28}{'ms':>10}{'plain ms':>10}{'ratio':>8}{'MB':>9}{'plain MB':>10}{'peer ms':>10}  peer")
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
    ours, plain, ratio, memory, beside, theirs = (getattr(found, field.name) for field in fields(found))
    who = "" if np.isnan(theirs) else f"  {OTHERS[name].package}"
    print(f"{name:28}{ours:10.2f}{plain:10.2f}{ratio:8.2f}{memory:9.1f}{beside:10.1f}{theirs:10.2f}{who}", flush=True)
    return [] if np.isnan(ratio) or plain < SHORT else [(f"{name} over its plain form", ratio, "<=", bar)]


if __name__ == "__main__":
    sys.exit(main())
