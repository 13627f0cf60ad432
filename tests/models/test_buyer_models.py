from typing import Any

import numpy as np
import pytest
import torch

from limbeck import parts
from limbeck.buyers import Bought, bg_nbd_log_likelihood, pareto_nbd_log_likelihood
from limbeck.errors import UserError
from limbeck.fetch import open_pack
from limbeck.metrics import worth
from limbeck.model import Model
from limbeck.task import Problem, Source
from limbeck.tasks.value import TASK
from limbeck.types import Array, Rows
from tests.test_contracts import by_customer, shoppers


def problem(**options: Any) -> Problem:
    source = shoppers(200)
    return TASK.prepare(source, by_customer(source.rows), {**TASK.options, **options})


def fitted(name: str, made: Problem) -> Model:
    family = parts.make("models", name, {})
    encoder = family.encoder(made)
    module = family.module(encoder, 1)
    family.fit(module, encoder.rows(made.train), np.zeros((len(made.train), 1)), None)
    return Model(name, {}, encoder, module, 1)


def said(model: Model, rows: Rows) -> Array:
    values: Array = model(rows.batch())["values"]
    assert values.shape == (len(rows), 1)
    return values[:, 0].astype(np.float64)


def test_the_rate_is_what_a_customer_did_so_far() -> None:
    for target in ("purchases", "dollars"):
        made = problem(target=target)
        found = said(fitted("purchase_rate", made), made.test)
        means = [np.mean(paid[1:]) for paid in made.train.table.column("amounts").to_pylist() if len(paid) > 1]
        for row, value in zip(made.test.table.to_pylist(), found, strict=True):
            ago, paid = row["ago"], row["amounts"]
            wanted = (len(ago) - 1) / max(ago[0], 1.0) * made.facts["horizon"]
            each = np.mean(paid[1:]) if len(paid) > 1 else np.mean(means)
            assert value == pytest.approx(wanted * (each if target == "dollars" else 1.0), rel=1e-5)


@pytest.mark.parametrize("name", ["bg_nbd", "pareto_nbd"])
def test_models_of_buyers_never_look_at_what_is_asked(name: str) -> None:
    """Customers who all stay away after the cut leave the same parameters."""
    made = problem()
    table = made.train.table
    place = table.column_names.index("wanted")
    away = table.set_column(place, "wanted", [np.zeros(len(table))])
    other = Problem(
        Rows(away, made.train.id, "away", made.train.roles), made.validation, made.test, made.axis, made.reads,
        None, {}, made.columns,
    )  # fmt: skip
    np.testing.assert_array_equal(said(fitted(name, made), made.test), said(fitted(name, other), made.test))


def test_weights_of_customers_count_them_again() -> None:
    made = problem()
    family = parts.make("models", "pareto_nbd", {})
    encoder = family.encoder(made)
    inputs = encoder.rows(made.train)
    weight = np.arange(len(made.train)) % 3.0
    twice = np.repeat(np.arange(len(made.train)), weight.astype(int))
    one, other = family.module(encoder, 1), family.module(encoder, 1)
    family.fit(one, inputs, None, weight)
    family.fit(other, {"bought": inputs["bought"][twice]}, None, None)
    asked = {"bought": torch.from_numpy(inputs["bought"])}
    torch.testing.assert_close(one(**asked)["values"], other(**asked)["values"], rtol=1e-2, atol=1e-2)


def test_a_network_says_the_mean_of_its_distribution() -> None:
    made = problem(target="dollars")
    family = parts.make("models", "spending_network", {"hidden": (5,)})
    torch.manual_seed(0)
    encoder = family.encoder(made)
    found = Model("spending_network", {"hidden": (5,)}, encoder, family.module(encoder, 1), 1)(made.test.batch())
    odds, level, spread = found["distribution"][:, 0].astype(np.float64).T
    drawn = np.random.default_rng(0).lognormal(level[:3], np.exp(spread[:3]), (400_000, 3))
    mean = drawn.mean(0) / (1 + np.exp(-odds[:3]))
    np.testing.assert_allclose(found["values"][:3, 0], mean, rtol=0.03)
    # Fresh weights begin near what training customers want on the whole.
    assert 0.2 < found["values"].mean() / np.mean(made.train.column("wanted")) < 5


def test_impossible_settings_and_other_tables_are_refused() -> None:
    with pytest.raises(UserError, match="or none"):
        parts.make("models", "spending_network", {"hidden": (0,)})
    made = problem()
    other = Problem(made.train, made.validation, made.test, made.axis, made.reads)
    with pytest.raises(UserError, match="for the task value"):
        parts.make("models", "bg_nbd", {}).encoder(other)


@pytest.mark.slow
def test_the_published_sample_has_its_published_parameters_and_figures() -> None:
    """Fader, Hardie, Lee 2005, tables 2 and 3, in weeks; the errors are those that `protocols` names."""
    source = open_pack("cdnow")
    assert isinstance(source, Source)
    part = np.array([{"train": 0, "validation": 1, "test": 2}[p] for p in source.rows.column("sample")])
    made = TASK.prepare(source, part, {**TASK.options, "cut": "1997-09-30", "horizon": 273})
    sample = Problem(made.test, made.validation, made.test, made.axis, made.reads, None, {}, made.columns)
    truth = np.asarray(sample.test.column("wanted"))
    published = {
        "bg_nbd": ((0.243, 4.414, 0.793, 2.426), -9582.4, (1.608, 0.662, -0.121)),
        "pareto_nbd": ((0.553, 10.578, 0.606, 11.669), -9595.0, (1.603, 0.673, -0.115)),
    }
    likelihood = {"bg_nbd": bg_nbd_log_likelihood, "pareto_nbd": pareto_nbd_log_likelihood}
    for name, (parameters, nats, errors) in published.items():
        model = fitted(name, sample)
        found = model.module.parameters_of_purchases.double()
        times = [1] if name == "bg_nbd" else [1, 3]
        found[times] /= 7
        np.testing.assert_allclose(found, parameters, atol=6e-3)
        known = torch.from_numpy(model.encoder.rows(sample.test)["bought"]).double()
        weeks = Bought(known[:, 0], known[:, 1] / 7, known[:, 2] / 7)
        assert likelihood[name](weeks, found).sum().item() == pytest.approx(nats, abs=0.1)
        values = said(model, sample.test)
        metrics = worth.rmse(truth, values), worth.gini(truth, values), worth.bias(truth, values)
        np.testing.assert_allclose(metrics, errors, atol=1.5e-3)
    assert worth.rmse(truth, said(fitted("purchase_rate", sample), sample.test)) == pytest.approx(2.21, abs=5e-3)
    paid = TASK.prepare(source, part, {**TASK.options, "cut": "1997-09-30", "target": "dollars"})
    sample = Problem(paid.test, paid.validation, paid.test, paid.axis, paid.reads, None, {}, paid.columns)
    amounts = fitted("pareto_nbd", sample).module.parameters_of_amounts
    np.testing.assert_allclose(amounts, (6.25, 3.74, 15.44), rtol=2e-3)  # Fader and Hardie 2013, page 4
