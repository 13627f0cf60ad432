"""Sentences of Amazon reviews, each graded by twenty people."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from limbeck.errors import UserError
from limbeck.fetch import Pack

ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATERS = 20


def table(folder: Path) -> pa.Table:
    """Sentences with the mean grade (-4 to 4), every person's grade, and the review they come from.

    Sentences and grades lie in an archive inside the archive.
    """
    with tarfile.open(folder / ARCHIVE) as inner:
        sentences = _lines(inner, "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt")
        graded = _lines(inner, "hutto_ICWSM_2014/amazonReviewSnippets_anonDataRatings.txt")
    grades = {row[0]: json.loads(row[3]) for row in graded}  # the two files differ in order
    names, means, texts = zip(*sentences, strict=True)
    if set(names) != set(grades):
        raise UserError("vader-amazon: the sentences and their grades do not name the same ids")
    by_person = np.array([grades[name] for name in names], np.int64)
    columns = {
        "snippet": pa.array(names),
        "review": pa.array([name.split("_")[0] for name in names]),
        "text": pa.array(texts),
        "rating": pa.array(np.array(means, np.float64)),
        **{f"rater_{i + 1}": pa.array(by_person[:, i]) for i in range(RATERS)},
    }
    return pa.table(columns)


def _lines(archive: tarfile.TarFile, member: str) -> list[list[str]]:
    stream = archive.extractfile(member)
    if stream is None:
        raise UserError(f"vader-amazon: {member} is not a file")
    return [line.split("\t") for line in stream.read().decode("utf-8-sig").strip().replace("\r", "").split("\n")]


PACK = Pack(
    name="vader-amazon",
    package="vaderSentiment",
    version="3.3.2",
    file="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    megabytes=2.5,
    licence="MIT",
    note="3,708 sentences of 300 Amazon reviews, graded -4 to 4 by twenty people each: split by the column review",
    members=(ARCHIVE,),
    table=table,
    roles={"text": "text", "label": "rating"},
)
