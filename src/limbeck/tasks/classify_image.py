"""Classify pictures: which of a few labels does a product picture have?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from limbeck import classes
from limbeck.cache import cache_folder
from limbeck.draft import epochs_for, line, protocol, shares, training_rows
from limbeck.errors import UserError, few
from limbeck.picture import look
from limbeck.table import map_table, write_table
from limbeck.task import Judgement, Problem, Source, Task
from limbeck.types import Array, Predictor, Rows

CHUNK = 256
"""Pictures a call when judging."""
STEPS, BATCH = 2000, 64
"""Steps that a drafted recipe takes at least, and the pictures of each."""
LOOK = 1
"""Raised whenever `look` would see a picture otherwise."""


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Pictures and labels, duplicates removed before anything else, as if they had never been there.

    Two pictures are the same when they have the same pixels, whatever their format. What is done with
    duplicates and with rows without a label, `classes.divided` says.

    Options:
        deduplicate: remove duplicates.
        unreadable: what to do about pictures that cannot be read: `refuse` them all with their reasons, or
            `skip` them; they are counted in the facts.
        positive: of two classes, the one whose probability the AUC is about.
    """
    if options["unreadable"] not in ("refuse", "skip"):
        raise UserError(f"unreadable is '{options['unreadable']}'; 'refuse' or 'skip' was wanted")
    rows = source.rows
    kind = rows.table.schema.field(rows.role("picture")).type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UserError(
            f"column '{rows.role('picture')}' plays the role of picture, but holds no encoded pictures (binary: PNG, "
            "JPEG, ...); a folder of pictures is read with `data: {path: FOLDER/}`"
        )
    seen = _seen(rows)
    why = seen.column("unreadable").to_pylist()
    bad = np.array([reason is not None for reason in why], bool)
    facts: dict[str, Any] = {}
    if bad.any():
        named = [f"id {rows.id[at]}: {why[at]}" for at in np.flatnonzero(bad)]
        if options["unreadable"] == "refuse":
            raise UserError(
                f"{len(named)} of {len(rows)} pictures cannot be read ({few(named)}); mend them, or say "
                "`options: {unreadable: skip}`"
            )
        facts = {"unreadable_pictures_dropped": len(named), "unreadable_pictures": few(named)}
    part = np.where(bad, classes.LEFT_OUT, np.asarray(part, np.int64))
    same = seen.column("digest").combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    told = Source(rows, source.sides, {**source.facts, **facts})
    kept = same.astype(np.int64) if options["deduplicate"] else None
    return classes.divided(told, part, kept, rows.role("picture"), options["positive"])


def _seen(rows: Rows) -> pa.Table:
    """What `look` saw of every picture, once a source."""
    column = rows.role("picture")
    kept = cache_folder("pictures") / f"{rows.source}-{column}-{LOOK}.arrow"
    if not kept.exists():
        digests, bad = look(rows.column(column))
        why = pa.array([bad.get(at) for at in range(len(rows))], pa.string())
        table = pa.table({"digest": digests, "unreadable": why})
        write_table(kept, table.schema, table.to_batches(), said="the pictures")
    return map_table(kept)


def judge(predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """All labelled rows, each counting alike.

    Raises:
        UserError: the predictor speaks of other classes than the task, or says NaN.
    """
    return classes.judge(predictor, rows, problem, order=np.arange(len(rows)), chunk=CHUNK)


def draft(rows: Rows, roles: Mapping[str, str]) -> Iterator[str]:
    """A residual teacher and two small students."""
    if "split" in roles:
        yield from protocol("given", "as the column says")
    else:
        yield from protocol(f"random, stratify: true, shares: {shares(len(rows))}", "each label's rows at random")
    count = training_rows(rows, roles.get("split"))
    epochs = epochs_for(STEPS, count, BATCH, least=12)
    rate = f"batch_size: {BATCH}, learning_rate: 2.0e-3, weight_decay: 0.01, schedule: cosine"
    yield "teacher:"
    yield line("  model: residual_network", "trained from nothing")
    yield f"  training: {{epochs: {epochs}, {rate}, precision: bf16}}"
    yield from ("", "students:", "  - {model: depthwise_separable, name: separable, multiplier: 0.5}")
    yield "  - {model: picture_convolution, name: convolution, widths: [16, 32, 64]}"
    yield from ("", "objective:", line("  - {loss: hard, weight: 0.2}", "the rows' own labels"))
    yield line("  - {loss: kl, temperature: 4.0, weight: 0.8}", "the teacher's probabilities")
    steps = epochs * -(-count // BATCH)
    yield from ("", "training:", line(f"  epochs: {epochs}", f"{steps:,} steps over {count:,} training rows"))
    yield from (*(f"  {said}" for said in rate.split(", ")), "")
    yield line("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


TASK = Task(
    name="classify_image",
    roles=("picture", "label"),
    optional_roles=("weight", "privileged"),
    takes_unlabelled=True,
    signal=("logits", "logits"),
    prepare=prepare,
    targets=classes.targets,
    hard="cross_entropy",
    metrics=classes.headed("accuracy"),
    judge=judge,
    baselines=("majority", "pixel_linear"),
    answer=classes.answer,
    show=classes.show,
    apart=classes.apart,
    draft=draft,
    options={"deduplicate": True, "unreadable": "refuse", "positive": None},
)
