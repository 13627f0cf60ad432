"""The contract of everything that answers: teachers, students, stores, files."""

from __future__ import annotations

import copy

import numpy as np

from limbeck.errors import UserError
from limbeck.testing.answer import check_signals, need, rows_of, same, same_column
from limbeck.types import Batch, Predictor, Rows


def check_teacher(predictor: Predictor, rows: Rows) -> None:
    """Hold a predictor to the arrow's promises.

    Equal batches are answered equally; splitting a batch changes nothing (to 1e-5); permuted rows get permuted
    answers; only the columns of `reads` are needed, and others change nothing; batches are left as they were;
    every signal has a known kind, one entry a row, and is finite or, as a mask, -inf; the fingerprint is stable.

    Args:
        predictor: a teacher, a student, a store.
        rows: two rows or more that it knows.

    Raises:
        AssertionError: a promise is broken; says which.
    """
    need(len(rows) >= 2, f"give at least 2 rows, not {len(rows)}: a batch of 1 cannot be split or permuted")
    told = predictor.fingerprint
    need(isinstance(told, str) and told != "", "the fingerprint must be a text that is not empty")
    unknown = [name for name in predictor.reads if name not in rows.names]
    need(not unknown, f"`reads` names columns that the rows lack: {unknown}")
    raw = rows.batch(predictor.reads)
    kept, batch = raw.columns, Batch(copy.deepcopy(raw.columns), raw.key)  # Arrow's own memory cannot be written to
    try:
        whole = predictor(batch)
    except UserError as wrong:
        raise AssertionError(f"it fails when it is given only the columns of `reads`: {wrong}") from wrong
    check_signals(whole, len(rows))
    untouched = all(same_column(batch[name], kept[name]) for name in kept)
    need(untouched, "it changed the columns of the batch; answer from copies")
    same(predictor(rows.batch(predictor.reads)), whole, "two equal batches are answered differently", tolerance=0)
    same(predictor(rows.batch()), whole, "columns outside `reads` change the answer")
    half = len(rows) // 2
    for start, stop in ((0, half), (half, len(rows)), (0, 1), (len(rows) - 1, len(rows))):
        part = predictor(rows.slice(start, stop).batch(predictor.reads))
        same(part, rows_of(whole, np.arange(start, stop)), f"rows {start} to {stop} alone are answered differently")
    order = np.random.default_rng(0).permutation(len(rows))
    permuted = predictor(rows.take(order).batch(predictor.reads))
    same(permuted, rows_of(whole, order), "permuting the rows does not permute the answers")
    need(predictor.fingerprint == told, "the fingerprint changed by being used")
