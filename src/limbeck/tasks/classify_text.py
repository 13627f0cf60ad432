"""Classify text: which of a few labels does a text have?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from limbeck import classes
from limbeck.draft import epochs_for, line, protocol, shares, training_rows
from limbeck.encoders.tfidf import analyzer_of
from limbeck.errors import UserError
from limbeck.task import Judgement, Problem, Source, Task
from limbeck.types import Array, Predictor, Rows

CHUNK = 128
"""Rows a call when judging: texts of like length go together, and a transformer still fits in memory."""

TUNED, FROM_NOTHING = 200, 750
"""Steps that a drafted recipe takes at least: of a teacher that was pretrained, and of what begins with random weights.
With 480 training rows and the epochs of a large file (90 steps) students stayed .09 of AUC below TF-IDF; so, .02."""


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Texts and labels, duplicates removed before anything else, as if they had never been there.

    Two texts are the same when they are after Unicode's NFC and with runs of white space made one
    space. What is done with duplicates and with rows without a label, `classes.divided` says.

    Options:
        deduplicate: remove duplicates.
        positive: of two classes, the one whose probability the AUC is about; it is the last of the
            axis. By default the last of the sorted labels.
        labelled: how many training rows keep their label; the others become unlabelled.
    """
    alike = same(source.rows, options) if options["deduplicate"] else None
    return classes.divided(source, part, alike, source.rows.role("text"), options)


def same(rows: Rows, options: Mapping[str, Any]) -> pa.Array:
    """Texts as the eye reads them: equal letters are equal, and white space of any script is one space."""
    plain = [" ".join(unicodedata.normalize("NFC", text).split()) for text in _texts(rows)]
    return pa.array(plain, pa.large_string())


def _texts(rows: Rows) -> list[str]:
    texts = rows.column(rows.role("text"))
    if not isinstance(texts, list):
        raise UserError(f"column '{rows.role('text')}' plays the role of text, but holds no strings; name another one")
    return texts


def judge(predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """All labelled rows at once, each counting alike; texts of like length are asked about together.

    Raises:
        UserError: the predictor speaks of other classes than the task, or says NaN.
    """
    order = np.argsort([len(text) for text in _texts(rows)], kind="stable")
    return classes.judge(predictor, rows, problem, order=order, chunk=CHUNK, groups=_by_length)


def _by_length(rows: Rows) -> dict[str, Array]:
    length = np.array([len(text) for text in _texts(rows)], np.int64)
    low, high = np.quantile(length, [1 / 3, 2 / 3]) if len(length) else (0, 0)
    return {
        "short texts": length <= low,
        "medium texts": (length > low) & (length <= high),
        "long texts": length > high,
    }


def draft(rows: Rows, roles: Mapping[str, str]) -> Iterator[str]:
    """A teacher fit for the script of the texts, and two small students."""
    if "split" in roles:
        yield from protocol("given", "as the column says")
    else:
        yield from protocol(f"random, stratify: true, shares: {shares(len(rows))}", "each label's rows at random")
    count = training_rows(rows, roles.get("split"))
    yield "teacher:"
    if analyzer_of(rows.column(roles["text"])) == "characters":
        yield line("  model: character_transformer", "for scripts without spaces; trained from nothing")
        epochs = epochs_for(FROM_NOTHING, count, 32, least=12)
        said = f"epochs: {epochs}, {_looks(epochs)}, batch_size: 32, learning_rate: 1.0e-3, bucket: true"
        yield f"  training: {{{said}}}"
    else:
        yield line("  model: transformer", "MiniLM, fetched once (83 MB), for English")
        yield line("  source: pack:minilm", "or a Hugging Face folder, or a hub name such as org/name")
        yield line("  length: 160", "tokens read of a text")
        epochs = epochs_for(TUNED, count, 32, least=3)
        said = f"epochs: {epochs}, batch_size: 32, learning_rate: 5.0e-5, schedule: linear, bucket: true, clip: 1"
        yield f"  training: {{{said}}}"
    yield from ("", "students:", "  - {model: bag_of_embeddings, name: bag, vocabulary: 8000, width: 16, ngrams: [2]}")
    yield "  - {model: text_convolution, name: convolution, vocabulary: 8000, width: 32, widths: [1, 2, 3]}"
    yield line("  - {model: tfidf_linear, name: linear}", "fitted, and at home where rows are few")
    yield from ("", "objective:", line("  - {loss: hard, weight: 0.2}", "the rows' own labels"))
    yield line("  - {loss: kl, temperature: 2.0, weight: 0.8}", "the teacher's probabilities")
    epochs = epochs_for(FROM_NOTHING, count, 64, least=12)
    steps = epochs * -(-count // 64)
    yield from ("", "training:", line(f"  epochs: {epochs}", f"at most: {steps:,} steps over {count:,} training rows;"))
    yield line("  batch_size: 64", f"below about {FROM_NOTHING} steps, students are no match for TF-IDF")
    yield from ("  learning_rate: 2.0e-3", line("  bucket: true", "texts of like length together"))
    yield from (*(f"  {said}" for said in _looks(epochs).split(", ")), "")
    yield line("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


def _looks(epochs: int) -> str:
    """About twelve looks at the validation rows, and an end after three in vain."""
    every = max(1, epochs // 12)
    return f"check_every: {every}, patience: {3 * every}"


TASK = Task(
    name="classify_text",
    roles=("text", "label"),
    optional_roles=("weight", "privileged"),
    takes_unlabelled=True,
    signal=("logits", "logits"),
    prepare=prepare,
    same=same,
    targets=classes.targets,
    hard="cross_entropy",
    metrics=classes.headed("auc"),
    judge=judge,
    baselines=("majority", "tfidf_linear"),
    answer=classes.answer,
    show=classes.show,
    apart=classes.apart,
    draft=draft,
    chance=0.5,
    options={"deduplicate": True, "positive": None, "labelled": None},
)
