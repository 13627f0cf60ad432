"""Orange juice at Dominick's: weekly sales of eleven brands in 83 stores, with prices and promotions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from limbeck.errors import MissingExtra
from limbeck.fetch import Pack

MEMBER = "usr/lib/R/site-library/bayesm/data/orangeJuice.rda"
BRANDS = (
    "Tropicana Premium 64 oz",
    "Tropicana Premium 96 oz",
    "Florida's Natural 64 oz",
    "Tropicana 64 oz",
    "Minute Maid 64 oz",
    "Minute Maid 96 oz",
    "Citrus Hill 64 oz",
    "Tree Fresh 64 oz",
    "Florida Gold 64 oz",
    "Dominicks 64 oz",
    "Dominicks 128 oz",
)
"""As bayesm's manual numbers them."""
PRICES = tuple(f"price_{number}" for number in range(1, len(BRANDS) + 1))


def table(folder: Path) -> pa.Table:
    """One row a week, store and brand: the logarithm of units, prices in dollars an ounce, deal and feature."""
    try:
        import rdata
    except ModuleNotFoundError:
        raise MissingExtra("tabular", "pack 'orange-juice'") from None
    sales = rdata.read_rda(folder / MEMBER)["orangeJuice"]["yx"]
    store, brand, week = (np.asarray(sales[name], np.int64) for name in ("store", "brand", "week"))
    prices = np.stack([np.asarray(sales[f"price{number + 1}"], np.float64) for number in range(len(BRANDS))], 1)
    return pa.table({
        "series": [f"{s}-{b}" for s, b in zip(store.tolist(), brand.tolist(), strict=True)],
        "week": week,
        "log_units": np.asarray(sales["logmove"], np.float64),
        "store": [str(s) for s in store.tolist()],
        "brand": [BRANDS[b - 1] for b in brand.tolist()],
        "price": prices[np.arange(len(brand)), brand - 1],
        "deal": np.asarray(sales["deal"], np.float64),
        "feature": np.asarray(sales["feat"], np.float64),
        **dict(zip(PRICES, prices.T, strict=True)),
    })  # fmt: skip


PACK = Pack(
    name="orange-juice",
    package="r-cran-bayesm",
    version="3.1-5+dfsg-1",
    file="r-cran-bayesm_3.1-5+dfsg-1_amd64.deb",
    sha256="57252e899b2e9913aa2c22938050d4b6c7a8c68ae54b909baaeb5f8130d4b75a",
    megabytes=1.9,
    licence="GPL-2 or later (bayesm): for tests and benchmarks",
    note="913 weekly series of store and brand with prices and promotions, log units, weeks 40 to 160; Debian's bayesm",
    members=(MEMBER,),
    pins={MEMBER: "4418b33f320a1e91124e934d4c7e3e978812e9c60b6924037447ffc44cf71855"},
    table=table,
    roles={
        "series": "series",
        "time": "week",
        "target": "log_units",
        "known": ("price", "deal", "feature", *PRICES),
        "static": ("store", "brand"),
    },
)
