"""Columns' vectors, and the models that are made of them, against plain loops."""

from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from limbeck import parts
from limbeck.column_reader import ColumnReader, FieldVectors, Linear, as_logits, columns_of, pairs
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.task import Problem
from limbeck.types import Axis, Rows

COUNT = 40
RNG = np.random.default_rng(0)
PAST = [[f"i{i % 5}" for i in range(n % 4)] for n in range(COUNT)]
TABLE = pa.table({
    "user": [f"u{i}" for i in RNG.integers(0, 6, COUNT)], "item": [f"i{n % 5}" for n in range(COUNT)],
    "price": RNG.normal(size=COUNT), "past": PAST, "later": RNG.normal(size=COUNT),
})  # fmt: skip
DEEP = ("deep_fm", "deep_cross", "interest_network", "embedding_mlp", "two_tower")


def problem(features: tuple[str, ...] = ("user", "item", "price", "past")) -> Problem:
    rows = Rows(TABLE, np.arange(COUNT), "here", {"features": features, "privileged": ("later",)})
    said = {"past": {"kind": "history", "of": "item", "length": 3}}
    return Problem(rows, rows, rows, Axis("label", ("no", "yes")), features, columns=said)


def made(name: str, **settings: Any) -> tuple[torch.nn.Module, Encoder, dict[str, Tensor]]:
    """What a model computes, with weights that are not nearly 0, and its tensors."""
    if name == "two_tower":
        settings["item"] = ("item",)
    family = parts.make("models", name, settings)
    encoder = family.encoder(problem())
    torch.manual_seed(0)
    module = family.module(encoder, 2).eval()
    with torch.no_grad():
        for weight in module.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    return module.core, encoder, {k: torch.from_numpy(v) for k, v in encoder.rows(problem().train).items()}


def margin(said: Tensor) -> Tensor:
    return said[:, 0]


def test_pairs_are_the_products_of_all_pairs() -> None:
    vectors = torch.randn(7, 5, 3, dtype=torch.double)
    naive = sum(vectors[:, a] * vectors[:, b] for a, b in combinations(range(5), 2))
    torch.testing.assert_close(pairs(vectors), naive)


def test_a_logistic_regression_is_the_sum_of_its_values_weights() -> None:
    module, encoder, tensors = made("sparse_logistic")
    columns, linear = columns_of(encoder), module
    assert isinstance(linear, Linear)
    for n, row in enumerate(TABLE.to_pylist()):
        total = float(linear.bias.detach())
        for column, values in (("user", [row["user"]]), ("item", [row["item"]]), ("past", row["past"][-3:])):
            for value in values:
                at = columns.id_names.index(f"{column}={value}")
                total += float(linear.value.weight[at].detach()) / len(values)
        total += float((tensors["numbers"][n] @ linear.number[:, 0]).detach())
        assert margin(module(**tensors))[n].item() == pytest.approx(total, abs=1e-5)


def test_a_factorisation_machine_adds_the_products_of_all_columns_vectors() -> None:
    module, _, tensors = made("factorisation_machine", width=4)
    vectors = module.vectors(**tensors).double()
    products = sum((vectors[:, a] * vectors[:, b]).sum(1) for a, b in combinations(range(vectors.shape[1]), 2))
    linear = module.products.linear(**tensors)[:, 0]
    torch.testing.assert_close(margin(module(**tensors)), (linear + products).float(), rtol=1e-4, atol=1e-4)


def test_a_crossing_layer_is_its_formula() -> None:
    module, _, tensors = made("deep_cross", width=3, crosses=2)
    first = module.vectors(**tensors).flatten(1)
    x = first
    for cross in module.crosses:
        x = first * (x @ cross.matrix.weight.T + cross.matrix.bias) + x
    wanted = (x @ module.head.weight.T)[:, 0] + module.deep(first)[:, 0]
    torch.testing.assert_close(margin(module(**tensors)), wanted, rtol=1e-4, atol=1e-4)
    low = made("deep_cross", width=3, crosses=1, rank=2)[0]
    assert [tuple(part.weight.shape) for part in low.crosses[0].matrix] == [
        (2, low.vectors.flat),
        (low.vectors.flat, 2),
    ]


def test_attention_weighs_every_item_of_the_past_by_itself() -> None:
    module, encoder, tensors = made("interest_network", width=3)
    attention = module.attention[0]
    place, item = columns_of(encoder).place("past"), columns_of(encoder).place("item")
    slots = module.vectors.slots(tensors["ids"])
    there = (tensors["weights"][:, place.slots] > 0).float()
    found = attention(slots[:, item.slots.start], slots[:, place.slots], there)
    for n in range(COUNT):
        total, offered = torch.zeros(3), slots[n, item.slots.start]
        for vector in slots[n, place.slots][: int(there[n].sum())]:
            both = torch.cat([offered, vector, offered - vector, offered * vector])
            total += torch.sigmoid(attention.score(both))[0] * vector
        torch.testing.assert_close(found[n], total / max(1.0, float(there[n].sum())) ** 0.5)


def test_a_history_has_its_items_vectors_or_its_own() -> None:
    columns = columns_of(ColumnReader().encoder(problem()))
    for shared in (True, False):
        vectors = FieldVectors(columns, 2, shared=shared)
        both = [columns.id_names.index(f"{column}=i1") for column in ("past", "item")]
        a, b = vectors.slots(torch.tensor([both]))[0]
        assert torch.equal(a, b) == shared


def test_some_known_values_are_shown_as_unknown_in_training_alone() -> None:
    _, encoder, tensors = made("sparse_logistic")
    columns = columns_of(encoder)
    vectors = FieldVectors(columns, 2, unknown=0.5)
    place = columns.place("user")
    strange = vectors.table.weight[place.ids.start]
    torch.manual_seed(0)
    hidden = (vectors.slots(tensors["ids"].repeat(50, 1))[:, 0] == strange).all(1).float().mean()
    assert abs(float(hidden) - 0.5) < 0.05
    # Padding stays padding.
    nothing = torch.zeros(200, tensors["ids"].shape[1], dtype=torch.int64)
    assert (vectors.slots(nothing) == vectors.table.weight[0]).all()
    vectors.eval()
    assert torch.equal(vectors.slots(tensors["ids"]), vectors.table(vectors.own[tensors["ids"]]))


def test_what_a_tower_says_hangs_on_its_own_columns_alone() -> None:
    module, encoder, tensors = made("two_tower", width=4)
    columns = columns_of(encoder)
    item = columns.place("item").slots.start
    margins = margin(module(**tensors)).detach()
    other = {**tensors, "ids": tensors["ids"].clone()}
    other["ids"][:, item] = tensors["ids"][0, item]
    changed = margin(module(**other)).detach()
    same = tensors["ids"][:, item] == tensors["ids"][0, item]
    torch.testing.assert_close(changed[same], margins[same])
    assert not torch.allclose(changed[~same], margins[~same])
    # With the people as they are, changing the thing moves people by an amount of rank depth + 1.
    by_thing = []
    for value in range(columns.place("item").ids.start, columns.place("item").ids.stop):
        other["ids"][:, item] = value
        by_thing.append(margin(module(**other)).detach().double())
    assert torch.linalg.matrix_rank(torch.stack(by_thing, 1), rtol=1e-5) <= 16 + 2


@pytest.mark.parametrize("name", [*DEEP, "factorisation_machine", "sparse_logistic"])
def test_no_numbers_or_no_values_are_no_hindrance(name: str) -> None:
    family = parts.make("models", name, {"item": ("item",)} if name == "two_tower" else {})
    for features in (("user", "item"), ("price", "later")):
        if name == "two_tower" and "item" not in features:
            continue
        of = problem(features)
        of = Problem(of.train, of.train, of.train, of.axis, features)
        encoder = family.encoder(of)
        tensors = {k: torch.from_numpy(v) for k, v in encoder.rows(of.train).items()}
        assert family.module(encoder, 2).eval()(**tensors)["logits"].shape == (COUNT, 2)


@pytest.mark.parametrize(
    "name", ["deep_fm", "deep_cross", "interest_network", "embedding_mlp", "factorisation_machine"]
)
def test_more_classes_than_two_have_a_logit_each(name: str) -> None:
    family = parts.make("models", name, {})
    encoder = family.encoder(problem())
    tensors = {k: torch.from_numpy(v) for k, v in encoder.rows(problem().train).items()}
    assert family.module(encoder, 5).eval()(**tensors)["logits"].shape == (COUNT, 5)


def test_two_classes_differ_by_the_margin() -> None:
    said = as_logits(torch.tensor([[3.0]]))
    assert torch.softmax(said["logits"], 1)[0, 1].item() == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_only_who_may_reads_privileged_columns() -> None:
    assert ColumnReader().encoder(problem()).reads == ("user", "item", "price", "past")
    assert ColumnReader(privileged=True).encoder(problem()).reads[-1] == "later"
    assert ColumnReader(without=("past",)).encoder(problem()).reads == ("user", "item", "price")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("deep_fm", {"hidden": ()}, "one width or more"),
        ("deep_fm", {"width": 0}, "at least 1"),
        ("deep_fm", {"dropout": 1.0}, "shares, below 1"),
        ("deep_cross", {"crosses": 0}, "crosses is 0"),
        ("two_tower", {"item": ("item",), "depth": 0}, "depth is 0"),
        ("two_tower", {}, "'item' names none"),
        ("two_tower", {"item": ("colour",)}, "'item' names 'colour'"),
        ("sparse_logistic", {"without": ("colour",)}, "without names 'colour'"),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parts.make("models", name, settings).encoder(problem())


def test_rows_without_features_are_no_table() -> None:
    rows = Rows(TABLE, np.arange(COUNT), "here", {})
    with pytest.raises(UserError, match="no column has the role 'features'"):
        ColumnReader().encoder(Problem(rows, rows, rows, Axis("label", ("a", "b")), ("user",)))
