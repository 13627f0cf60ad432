"""Sentences of Amazon reviews, each graded by twenty people."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from limbeck.errors import UserError
from limbeck.fetch import Pack
from limbeck.table import map_table, source_of, write_table
from limbeck.task import Source

ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATERS = 20


def prepare(folder: Path) -> None:
    """Join the sentences and their grades, which lie in an archive inside the archive."""
    with tarfile.open(folder / ARCHIVE) as inner:
        sentences = _lines(inner, "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt")
        graded = _lines(inner, "hutto_ICWSM_2014/amazonReviewSnippets_anonDataRatings.txt")
    (folder / ARCHIVE).unlink()
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
    table = pa.table(columns)
    write_table(folder / "rows.arrow", table.schema, table.to_batches(), said=PACK.name)


def _lines(archive: tarfile.TarFile, member: str) -> list[list[str]]:
    stream = archive.extractfile(member)
    if stream is None:
        raise UserError(f"vader-amazon: {member} is not a file")
    return [line.split("\t") for line in stream.read().decode("utf-8-sig").strip().replace("\r", "").split("\n")]


def read(folder: Path) -> Source:
    """Sentences with the mean grade (-4 to 4), every person's grade, and the review they come from."""
    return source_of(
        map_table(folder / "rows.arrow"),
        source=PACK.fingerprint,
        roles={"text": "text", "label": "rating"},
        facts={"pack": PACK.name, "licence": PACK.licence},
    )


PACK = Pack(
    name="vader-amazon",
    package="vaderSentiment",
    version="3.3.2",
    file="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    licence="MIT",
    note="3,708 sentences of 300 Amazon reviews, graded -4 to 4 by twenty people each: split by the column review",
    members=(ARCHIVE,),
    read=read,
    prepare=prepare,
)
