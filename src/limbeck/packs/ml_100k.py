"""MovieLens 100K: 943 people rate 1,682 films."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc

from limbeck import parts
from limbeck.fetch import Pack
from limbeck.task import Source

INSIDE = "recbole/dataset_example/ml-100k/"


def read(folder: Path) -> Source:
    """Ratings, with side tables `user` and `item`; the items' `movie_title` is one string each."""
    source: Source = parts.make("data", "recbole", {"path": "ml-100k.inter"}).read(folder / INSIDE)
    items = source.sides["item"]
    place = items.column_names.index("movie_title")
    titles = pc.binary_join(items.column(place), " ")
    sides = {**source.sides, "item": items.set_column(place, "movie_title", titles)}
    return replace(source, sides=sides, facts={**source.facts, "pack": PACK.name, "licence": PACK.licence})


PACK = Pack(
    name="ml-100k",
    package="recbole",
    version="1.2.1",
    file="recbole-1.2.1-py3-none-any.whl",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    megabytes=2.1,
    licence="GroupLens terms: research use, no redistribution",
    note="100,000 ratings by 943 people (age, gender, occupation) of 1,682 titled films, 1997-98; films, not goods",
    members=tuple(f"{INSIDE}ml-100k.{ending}" for ending in ("inter", "user", "item")),
    read=read,
)
