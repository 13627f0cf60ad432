"""Classify pictures: which of a few labels does a product picture have?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import classes
from limbeck.cache import cache_folder
from limbeck.draft import distinct, epochs_for, kin, line, protocol, shares, training_rows
from limbeck.errors import UserError, few
from limbeck.picture import look
from limbeck.table import map_table, write_table
from limbeck.task import Judgement, Problem, Source, Task
from limbeck.types import Array, Predictor, Rows, fingerprint

CHUNK = 256
"""Pictures a call when judging."""
STEPS, BATCH = 2000, 64
"""Steps that a drafted recipe takes at least, and the pictures of each."""
FILE = "file"
"""The column of a folder of pictures, or of one's own table, that names their files."""
LOOK = 2
"""Raised whenever `look` would see a picture otherwise, or is kept otherwise."""
LOOKED = pa.schema([("id", pa.int64()), ("digest", pa.large_string()), ("unreadable", pa.string())])


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Pictures and labels, duplicates removed before anything else, as if they had never been there.

    Two pictures are the same when they have the same pixels, whatever their format. What is done with
    duplicates and with rows without a label, `classes.divided` says.

    Options:
        deduplicate: remove duplicates.
        unreadable: what to do about pictures that cannot be read: `refuse` them all with their reasons, or
            `skip` them; they are counted in the facts.
        positive: of two classes, the one whose probability the AUC is about.
        labelled: how many training rows keep their label; the others become unlabelled.
    """
    rows = source.rows
    seen = _seen(rows, options)
    bad = seen.column("unreadable").is_valid().to_numpy()
    part = np.where(bad, classes.LEFT_OUT, np.asarray(part, np.int64))
    facts: dict[str, Any] = {}
    if bad.any():
        facts = {"unreadable_pictures_dropped": int(bad.sum()), "unreadable_pictures": few(_told(rows, seen))}
    told = Source(rows, source.sides, {**source.facts, **facts})
    alike = seen.column("digest").combine_chunks() if options["deduplicate"] else None
    return classes.divided(told, part, alike, rows.role("picture"), options)


def same(rows: Rows, options: Mapping[str, Any]) -> pa.Array:
    """A digest of every picture's size and pixels; null where it cannot be read.

    Raises:
        UserError: pictures that cannot be read, where the options do not say `unreadable: skip`.
    """
    return _seen(rows, options).column("digest").combine_chunks()


def _seen(rows: Rows, options: Mapping[str, Any]) -> pa.Table:
    """What `look` saw of every picture: its digest, or why it cannot be read.

    Raises:
        UserError: as `same` says; or the column holds no pictures.
    """
    if options["unreadable"] not in ("refuse", "skip"):
        raise UserError(f"unreadable is '{options['unreadable']}'; 'refuse' or 'skip' was wanted")
    kind = rows.table.schema.field(rows.role("picture")).type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UserError(
            f"column '{rows.role('picture')}' plays the role of picture, but holds no encoded pictures (binary: PNG, "
            "JPEG, ...); a folder of pictures is read with `data: {path: FOLDER/}`"
        )
    seen = _looked(rows, rows.role("picture"))
    named = _told(rows, seen)
    if named and options["unreadable"] == "refuse":
        raise UserError(
            f"{len(named)} of {len(rows)} pictures cannot be read ({few(named)}); mend them, or say "
            "`options: {unreadable: skip}`"
        )
    return seen


def _told(rows: Rows, seen: pa.Table) -> list[str]:
    """The pictures that cannot be read, with their reasons: by their files, where a column names those."""
    why = seen.column("unreadable")
    at = np.flatnonzero(why.is_valid().to_numpy())
    names = rows.take(at).column(FILE) if FILE in rows.names else [f"id {id}" for id in rows.id[at]]
    return [f"{name}: {reason}" for name, reason in zip(names, why.take(pa.array(at)).to_pylist(), strict=True)]


def _looked(rows: Rows, column: str) -> pa.Table:
    """The same, each picture of a source looked at once; some of them may be gone since, as forgotten people's are."""
    kept = cache_folder("pictures") / f"{fingerprint('pictures', LOOK, source=rows.source, column=column)}.arrow"
    known = map_table(kept) if kept.exists() else LOOKED.empty_table()
    new = np.flatnonzero(~np.isin(rows.id, known.column("id").to_numpy()))
    if len(new):
        some = rows if len(new) == len(rows) else rows.take(new)
        digests, bad = look(some.column(column))
        told = {"digest": [digest or None for digest in digests], "unreadable": [*map(bad.get, range(len(some)))]}
        found = pa.table({"id": some.id, **told}, LOOKED)
        known = pa.concat_tables([known, found])
        write_table(kept, LOOKED, known.to_batches(), said="the pictures")
    return known.take(pc.index_in(pa.array(rows.id), value_set=known.column("id").combine_chunks()))


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
    elif (group := kin(rows, roles)) is not None:
        split = f"group, by: {json.dumps(group, ensure_ascii=False)}, shares: {shares(distinct(rows, group))}"
        yield from protocol(split, "pictures of one thing stay together, or the test would know them")
    else:
        yield from protocol(f"random, stratify: true, shares: {shares(len(rows))}", "each label's rows at random")
    count = training_rows(rows, roles.get("split"))
    epochs = epochs_for(STEPS, count, BATCH, least=12)
    rate = f"batch_size: {BATCH}, learning_rate: 2.0e-3, weight_decay: 0.01, schedule: cosine"
    yield "teacher:"
    yield line("  model: residual_network", "from nothing; efficientnet_lite comes from ImageNet, for few labels")
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
    same=same,
    targets=classes.targets,
    hard="cross_entropy",
    metrics=classes.headed("accuracy"),
    judge=judge,
    baselines=("majority", "pixel_linear"),
    answer=classes.answer,
    show=classes.show,
    apart=classes.apart,
    draft=draft,
    options={"deduplicate": True, "unreadable": "refuse", "positive": None, "labelled": None},
)
