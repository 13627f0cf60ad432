"""CDNOW: what people who first bought in early 1997 from an online shop of music bought in a year and a half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from limbeck.fetch import Pack

MASTER = "lifetimes/datasets/CDNOW_master.txt"
SAMPLE = "lifetimes/datasets/CDNOW_sample.txt"
EIGHTH = 8
"""Of the customers outside the sample every so manieth, by number, is for validation."""


def table(folder: Path) -> pa.Table:
    """One row a transaction: customer, date, number of CDs, dollars, and the part of a split by the published sample.

    The sample is one customer in ten of the same transactions; only its list of customers is needed.
    """
    rows = _rows(folder / MASTER)
    sample = {row[0] for row in _rows(folder / SAMPLE)}
    part = ["test" if row[0] in sample else "train" if int(row[0]) % EIGHTH else "validation" for row in rows]
    days = np.array([f"{row[1][:4]}-{row[1][4:6]}-{row[1][6:]}" for row in rows], "datetime64[D]")
    return pa.table({
        "customer": [row[0] for row in rows],
        "date": pa.array(days),
        "cds": np.array([row[2] for row in rows], np.int64),
        "dollars": np.array([row[3] for row in rows], np.float64),
        "sample": part,
    })  # fmt: skip


def _rows(file: Path) -> list[list[str]]:
    """Fields apart by spaces; lines that begin with no number are headers, or empty."""
    split = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return [fields for fields in split if fields and fields[0].isdigit()]


PACK = Pack(
    name="cdnow",
    package="Lifetimes",
    version="0.11.3",
    file="Lifetimes-0.11.3-py3-none-any.whl",
    sha256="261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8",
    megabytes=0.6,
    licence="MIT (lifetimes); the transactions are Fader and Hardie's, for research",
    note="69,659 purchases of music by 23,570 customers, 1997-98; a `given` split tests on the published sample",
    members=(MASTER, SAMPLE),
    table=table,
    roles={"user": "customer", "time": "date", "amount": "dollars", "split": "sample"},
)
