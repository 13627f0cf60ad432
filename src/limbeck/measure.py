"""How fast a predictor answers, its encoding included: teacher, student and artifact by one clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from limbeck.errors import UserError
from limbeck.types import Array, Batch, Predictor

LEAST = 5
"""Calls at least, however slow; fewer have no median worth the name."""


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Args:
        p50_ms, p95_ms: milliseconds to answer one row, median and 95th percentile.
        rows_per_second: throughput over the big batch.
        encode_ms: median milliseconds of a row's answer spent on encoding; none where the predictor
            does not tell its encoder apart.
        encode_share: share of the big batch's time spent on encoding, 0 to 1; none likewise.
        calls: single rows answered.
    """

    p50_ms: float
    p95_ms: float
    rows_per_second: float
    encode_ms: float | None
    encode_share: float | None
    calls: int


def on_threads(predictor: Predictor, count: int) -> Predictor:
    """The same predictor on so many threads, where it has a say in that and offers `on_threads`."""
    ask: Callable[[int], Predictor] | None = getattr(predictor, "on_threads", None)
    return predictor if ask is None else ask(count)


def speed(predictor: Predictor, ones: Sequence[Batch], big: Batch, *, seconds: float = 1.0) -> Speed:
    """Time a predictor, warm, on one thread: only figures of equal threads compare.

    Teachers that are brought are put on one here (`on_threads`). The caller sets what belongs to the whole
    process or to a session already made: `torch.set_num_threads(1)` for a torch model,
    `Artifact.predictor(threads=1)` for a file. A service is timed as it answers, whatever it uses.

    Args:
        predictor: a model, an artifact or any other.
        ones: batches of one row, asked in turn; of several lengths, as real requests are.
        big: a batch of many rows.
        seconds: for all of it, half for single rows; a predictor slower than that is asked 5 times.

    Raises:
        UserError: a batch of `ones` has not one row, or there is none.
    """
    if not ones or any(len(one.key) != 1 for one in ones):
        raise UserError("latency is measured on batches of one row; give some")
    if not len(big.key):
        raise UserError("throughput is measured on a batch of many rows; this one is empty")
    predictor = on_threads(predictor, 1)
    # What they do not read is nobody's time.
    ones, big = [one.only(predictor.reads) for one in ones], big.only(predictor.reads)
    encoder = getattr(predictor, "encoder", None)
    single = _timed(predictor, ones, seconds * (0.4 if encoder else 0.5))
    many = _timed(predictor, [big], seconds * (0.4 if encoder else 0.5))
    encode_ms = encode_share = None
    if encoder is not None:
        encode_ms = float(np.median(_timed(encoder, ones, seconds * 0.1))) * 1e3
        encode_share = min(1.0, float(np.median(_timed(encoder, [big], seconds * 0.1)) / np.median(many)))
    p50, p95 = np.percentile(single, [50, 95]) * 1e3
    return Speed(
        p50_ms=float(p50),
        p95_ms=float(p95),
        rows_per_second=float(len(big.key) / np.median(many)),
        encode_ms=encode_ms,
        encode_share=encode_share,
        calls=len(single),
    )


def _timed(ask: Callable[[Batch], object], batches: Sequence[Batch], seconds: float) -> Array:
    """Seconds of every call, after a warm-up of one call a batch or a tenth of the time."""
    turns: Iterator[Batch] = cycle(batches)
    start = time.perf_counter()
    for batch in batches:
        ask(batch)
        if time.perf_counter() - start > seconds / 10:
            break
    taken: list[float] = []
    start = before = time.perf_counter()
    while len(taken) < LEAST or before - start < seconds:
        ask(next(turns))
        now = time.perf_counter()
        taken.append(now - before)
        before = now
    return np.array(taken)
