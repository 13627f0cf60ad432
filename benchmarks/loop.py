"""What the loop costs beside a hand-written one, knowledge beside none, and labelling beside the bare teacher.

    python benchmarks/loop.py [--steps 150] [--rounds 5]

Every ratio is the median over rounds of two timings taken one after the other, so that a noisy machine moves both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from bar import show
from torch import nn

from limbeck.encoder import Encoder
from limbeck.encoders.tokens import Tokens
from limbeck.knowledge import Knowledge
from limbeck.loader import TableLoader
from limbeck.losses.catalogue_cross_entropy import CatalogueCrossEntropy
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.kl import Kl
from limbeck.losses.listwise_kl import ListwiseKl
from limbeck.model import Model
from limbeck.models.bidirectional_gru import BidirectionalGru
from limbeck.models.character_transformer import CharacterTransformer
from limbeck.models.matrix_factorisation import Factors
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.store import Store
from limbeck.task import Problem
from limbeck.types import Axis, Batch, Rows, Signals
from limbeck.verbs.distill import distill
from limbeck.verbs.label import Labelling, label

ROWS, LENGTH, CLASSES = 4096, 96, 2
USERS, ITEMS, WIDTH = 943, 1682, 16


class Answers:
    """A predictor that looks its answers up: the cheapest teacher there can be."""

    reads: tuple[str, ...] = ()

    def __init__(self, name: str, kind: str, values: np.ndarray) -> None:
        self.name, self.kind, self.values = name, kind, values
        self.fingerprint = f"answers-{name}-{values.shape}"

    def __call__(self, batch: Batch) -> Signals:
        return Signals({self.name: self.values[batch.key.id]}, {self.name: self.kind})  # type: ignore[dict-item]


def stored(teacher: Answers, root: Path) -> Store:
    ids = np.arange(len(teacher.values), dtype=np.int64)
    rows = Rows(pa.table({"x": ids}), ids, "bench")
    return label(teacher, rows, root, Labelling(Knowledge(dtype="float16")))


def ratios(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Median of first / second over rounds, and the medians themselves."""
    first(), second()
    pairs = [(first(), second()) for _ in range(rounds)]
    return (
        float(np.median([a / b for a, b in pairs])),
        float(np.median([a for a, _ in pairs])),
        float(np.median([b for _, b in pairs])),
    )


def text_parts() -> tuple[Callable[[], nn.Module], Callable[[], TableLoader]]:
    draw = np.random.default_rng(0)
    words = [f"w{i}" for i in range(8000)]
    texts = [" ".join(draw.choice(words, 60)) for _ in range(400)]
    family = BidirectionalGru(vocabulary=8000, width=32, hidden=32)
    encoder = Encoder([Tokens.train("text", texts, vocabulary=8000, length=LENGTH)])
    ids = draw.integers(2, len(encoder.encodings[0]), (ROWS, LENGTH))  # type: ignore[arg-type]
    label_ = draw.integers(0, CLASSES, ROWS)

    def module() -> nn.Module:
        torch.manual_seed(0)
        return family.module(encoder, CLASSES)

    def loader() -> TableLoader:
        return TableLoader({"ids": ids, "label": label_}, np.arange(ROWS), batch_size=64, padded=[("ids",)])

    return module, loader


def per_step(module: nn.Module, loader: TableLoader, objective: Objective, teacher: Store | None, steps: int) -> float:
    told = distill(module, loader, teacher=teacher, objective=objective, training=Training(steps=steps, epochs=steps))
    return told.seconds / told.steps


def by_hand(module: nn.Module, loader: TableLoader, steps: int) -> float:
    """The plainest PyTorch loop that does the same work: order, gather, forward, backward, AdamW with a cosine."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train()
    done, epoch, total = 0, 0, 0.0
    start = time.perf_counter()
    while done < steps:
        for batch in loader.batches(epoch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(batch["ids"])["logits"], batch["label"])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            done += 1
            if done == steps:
                break
        epoch += 1
    return (time.perf_counter() - start) / steps


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--steps", type=int, default=150)
    asked.add_argument("--rounds", type=int, default=5)
    told = asked.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(1)
        module, loader = text_parts()
        knows = stored(Answers("logits", "logits", draw.normal(size=(ROWS, CLASSES)).astype(np.float32)), Path(folder))
        hard = Objective([("hard", CrossEntropy(), 1.0)])
        both = Objective([("hard", CrossEntropy(), 0.5), ("kl", Kl(temperature=2.0), 0.5)])
        ratio, with_teacher, without = ratios(
            lambda: per_step(module(), loader(), both, knows, told.steps),
            lambda: per_step(module(), loader(), hard, None, told.steps),
            told.rounds,
        )
        found |= {"gru_step_stored_over_none": ratio, "gru_step_stored_ms": with_teacher * 1e3}
        ratio, ours, hand = ratios(
            lambda: per_step(module(), loader(), hard, None, told.steps),
            lambda: by_hand(module(), loader(), told.steps),
            told.rounds,
        )
        found |= {"gru_loop_over_by_hand": ratio, "gru_loop_ms": ours * 1e3, "gru_by_hand_ms": hand * 1e3}
        scores = stored(Answers("scores", "scores", draw.normal(size=(USERS, ITEMS)).astype(np.float32)), Path(folder))
        history = np.where(draw.random((USERS, 100)) < 0.8, draw.integers(2, ITEMS + 2, (USERS, 100)), 0)
        tensors = {
            "user": np.arange(USERS) + 2,
            "history": np.sort(history, 1)[:, ::-1].copy(),
            "targets": np.sort(draw.integers(-1, ITEMS, (USERS, 80)), 1)[:, ::-1].copy(),
        }

        def factors() -> tuple[nn.Module, TableLoader]:
            torch.manual_seed(0)
            made = Factors(USERS + 2, ITEMS + 2, width=WIDTH, spread=0.1, dropout=0.0)
            return made, TableLoader(tensors, np.arange(USERS), batch_size=1024, padded=[("history",), ("targets",)])

        one = Objective([("hard", CatalogueCrossEntropy(), 1.0)])
        two = Objective([("hard", CatalogueCrossEntropy(), 0.3), ("kl", ListwiseKl(temperature=0.1), 1.0)])
        ratio, with_teacher, without = ratios(
            lambda: per_step(*factors(), two, scores, told.steps // 3),
            lambda: per_step(*factors(), one, None, told.steps // 3),
            told.rounds,
        )
        found |= {"mf_step_stored_ms": with_teacher * 1e3, "mf_step_none_ms": without * 1e3}
        found["mf_overhead_ms"] = (with_teacher - without) * 1e3
        found |= labelling(Path(folder), told.rounds)
    print("\n".join(f"{name:32} {value:10.3f}" for name, value in found.items()))
    print(json.dumps(found))
    return show([
        ("GRU step, stored knowledge over no teacher", found["gru_step_stored_over_none"], "<=", 1.10),
        ("GRU step, the loop over one by hand", found["gru_loop_over_by_hand"], "<=", 1.10),
        ("labelling over the bare teacher's rate", found["label_rate_over_bare"], ">=", 0.9),
    ])  # fmt: skip


def labelling(root: Path, rounds: int) -> dict[str, float]:
    """Rows a second of `label` over those of the same teacher, a small transformer, called batch by batch."""
    draw = np.random.default_rng(3)
    texts = ["".join(draw.choice(list("abcdefghijklmnopqrstuvwxyz "), int(draw.integers(20, 90)))) for _ in range(1024)]
    ids = np.arange(len(texts), dtype=np.int64)
    rows = Rows(pa.table({"text": texts, "label": ["a", "b"] * 512}), ids, "bench-label", {"text": "text"})
    problem = Problem(rows, rows, rows, Axis("label", ("a", "b")), ("text",))
    family = CharacterTransformer(width=128, layers=3, length=96, stride=1)
    encoder = family.encoder(problem)
    round_ = iter(range(10**6))

    def teacher() -> Model:
        torch.manual_seed(next(round_))  # other weights, so that every round fills a store of its own
        return Model("character_transformer", asdict(family), encoder, family.module(encoder, 2), 2)

    def bare() -> float:
        asked = teacher()
        start = time.perf_counter()
        for batch in rows.batches(64):
            asked(batch)
        return time.perf_counter() - start

    def ours() -> float:
        asked = teacher()
        start = time.perf_counter()
        label(asked, rows, root, Labelling(Knowledge(dtype="float16"), batch=64))
        return time.perf_counter() - start

    ratio, plain, kept = ratios(bare, ours, rounds)
    return {"label_rate_over_bare": ratio, "bare_rows_per_s": len(ids) / plain, "label_rows_per_s": len(ids) / kept}


if __name__ == "__main__":
    sys.exit(main())
