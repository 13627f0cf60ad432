"""The families that forecast: naive ones beside loops, the others for what they promise of quantiles and windows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from limbeck import parts
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.series import LEVELS
from limbeck.task import Problem, Source
from limbeck.tasks.demand import TASK
from limbeck.types import Rows

torch.set_num_threads(1)
NAIVE = ["last_value", "seasonal_naive", "zeros"]
LEARNT: Mapping[str, Mapping[str, Any]] = {
    "boosted_forecast": {"rounds": 20, "leaf_rows": 5},
    "forecast_mlp": {"hidden": (8,)},
    "linear_forecast": {},
    "nhits": {"hidden": 8, "pools": (4, 1)},
    "patch_transformer": {"width": 8, "depth": 1, "patch": 3},
}
HORIZON, LENGTH, SEASON = 5, 12, 4


def problem(*, bare: bool = False, gaps: float = 0.15) -> Problem:
    rng = np.random.default_rng(0)
    name, week = np.divmod(np.arange(8 * 60), 60)
    demand = 10 * (name + 1) + 4 * np.sin(np.pi * week / 2) + rng.normal(size=len(week))
    columns = {"s": [f"s{n}" for n in name], "t": week, "y": demand}
    roles: dict[str, Any] = {"series": "s", "time": "t", "target": "y"}
    if not bare:
        columns |= {"price": rng.normal(size=len(week)), "kind": [f"k{n % 3}" for n in name]}
        roles |= {"known": ("price",), "static": ("kind",)}
    table = pa.table(columns).take(np.flatnonzero(rng.random(len(week)) >= gaps))
    rows = Rows(table, np.arange(table.num_rows), "here", roles)
    part = (rows.column("t") >= 45).astype(np.int8) + (rows.column("t") >= 52)
    season = 1 if bare else SEASON
    options = {**TASK.options, "horizon": HORIZON, "length": LENGTH, "season": season, "negative": "allow"}
    return TASK.prepare(Source(rows), part, options)


def made(name: str, settings: Mapping[str, Any], of: Problem) -> Model:
    torch.manual_seed(0)
    family = parts.make("models", name, dict(settings))
    encoder = family.encoder(of)
    model = Model(name, dict(settings), encoder, family.module(encoder, len(of.axis)), len(of.axis))
    if hasattr(family, "fit"):
        truth = TASK.targets(of.train, of)
        family.fit(model.module, encoder.rows(of.train), np.where(truth["mask"], truth["values"], np.nan), None)
    return model


def windows(of: Problem) -> np.ndarray:
    return np.array(of.test.column("past").values).reshape(len(of.test), -1)


def test_the_last_value_is_that_of_a_loop():
    of = problem()
    said = made("last_value", {}, of)(of.test.batch())
    for window, values in zip(windows(of), said["values"], strict=True):
        there = window[np.isfinite(window)]
        np.testing.assert_allclose(values, [there[-1]] * HORIZON, rtol=1e-5)


def test_the_seasonal_naive_is_that_of_a_loop():
    of = problem()
    said = made("seasonal_naive", {}, of)(of.test.batch())
    fell_back = 0
    for window, values in zip(windows(of), said["values"], strict=True):
        for step in range(HORIZON):
            place = LENGTH + step
            while place >= LENGTH:
                place -= SEASON
            while place >= 0 and np.isnan(window[place]):
                place -= SEASON
                fell_back += 1
            wanted = window[place] if place >= 0 else window[np.isfinite(window)][-1]
            np.testing.assert_allclose(values[step], wanted, rtol=1e-5)
    assert fell_back, "the test tries no gap"


def test_zeros_say_no_demand_whatever_the_past():
    of = problem()
    assert not made("zeros", {}, of)(of.test.batch())["values"].any()


@pytest.mark.parametrize("name", NAIVE)
def test_naive_quantiles_are_those_of_their_own_errors_in_training(name):
    of = problem(gaps=0.0)
    model = made(name, {}, of)
    said, scale = model(of.train.batch()), model.encoder.rows(of.train)["scale"]
    apart = (TASK.targets(of.train, of)["values"] - said["values"]) / scale[:, None]
    spread = (said["quantiles"] - said["values"][:, :, None]) / scale[:, None, None]
    for step in range(HORIZON):
        low, _, high = np.quantile(apart[:, step], LEVELS)
        np.testing.assert_allclose(spread[:, step, 0], min(low, 0), rtol=1e-2, atol=1e-4)
        np.testing.assert_allclose(spread[:, step, 2], max(high, 0), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("name", [*NAIVE, *LEARNT])
def test_quantiles_never_cross_and_the_median_is_the_value(name, bare):
    of = problem(bare=bare)
    model = made(name, LEARNT.get(name, {}), of)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    said = model(of.test.batch())
    assert (np.diff(said["quantiles"], axis=2) >= -1e-4).all()
    np.testing.assert_array_equal(said["quantiles"][:, :, 1], said["values"])
    assert said["values"].shape == (len(of.test), HORIZON)


@pytest.mark.parametrize("name", [n for n in LEARNT if n != "boosted_forecast"])
def test_a_series_in_other_units_gets_the_same_forecast_in_those(name):
    of = problem()
    model = made(name, LEARNT[name], of)
    tensors = {key: torch.from_numpy(value) for key, value in model.encoder.rows(of.test).items()}
    model.module.eval()
    with torch.no_grad():
        once = model.module(**tensors)["values"]
        moved = {**tensors, "level": tensors["level"] * 1000 + 7, "scale": tensors["scale"] * 1000}
        np.testing.assert_allclose(model.module(**moved)["values"], once * 1000 + 7, rtol=1e-4, atol=0.1)


@pytest.mark.parametrize("name", [n for n in LEARNT if n != "boosted_forecast"])
def test_what_is_known_of_a_date_and_of_a_series_is_heard(name):
    of = problem()
    model = made(name, LEARNT[name], of)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.module.eval()
    tensors = {key: torch.from_numpy(value) for key, value in model.encoder.rows(of.test).items()}
    with torch.no_grad():
        once = model.module(**tensors)["values"]
        for key, changed in (("known", tensors["known"] + 1), ("static", torch.full_like(tensors["static"], 1))):
            assert not torch.equal(model.module(**{**tensors, key: changed})["values"], once), key


def test_boosted_quantiles_are_lightgbms_own():
    import lightgbm

    of = problem(bare=True, gaps=0.0)
    settings = {"rounds": 12, "leaf_rows": 5, "row_share": 1.0, "column_share": 1.0, "scaling": "center"}
    model = made("boosted_forecast", settings, of)
    features = model.encoder.rows(of.train)["features"]
    level = features[:, LENGTH].astype(np.float64)
    truth = TASK.targets(of.train, of)["values"]
    said = model(of.train.batch())["quantiles"]
    own = {"objective": "quantile", "alpha": 0.5, "min_data_in_leaf": 5, "learning_rate": 0.05, "verbose": -1}
    booster = lightgbm.train(
        {**own, "num_threads": 1, "deterministic": True, "force_row_wise": True},
        lightgbm.Dataset(features, truth[:, 2] - level, weight=np.ones(len(level))),
        12,
    )
    np.testing.assert_allclose(said[:, 2, 1], booster.predict(features) + level, rtol=1e-4, atol=1e-3)


def test_boosted_trees_learn_a_teachers_quantiles_themselves():
    of = problem(bare=True, gaps=0.0)
    family = parts.make("models", "boosted_forecast", {"rounds": 150, "learning_rate": 0.1, "leaf_rows": 2})
    encoder = family.encoder(of)
    module = family.module(encoder, HORIZON)
    inputs = encoder.rows(of.train)
    level, scale = inputs["features"][:, LENGTH], inputs["features"][:, LENGTH + 1]
    taught = np.repeat((level[:, None] + scale[:, None] * [-2.0, 0.5, 3.0])[:, None], HORIZON, 1)
    family.fit(module, inputs, taught, None)
    said = module(torch.from_numpy(inputs["features"]))["quantiles"].numpy()
    np.testing.assert_allclose((said - taught) / scale[:, None, None], 0, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boosted_forecast", "nhits", "patch_transformer", "seasonal_naive"])
def test_as_onnx_a_forecaster_says_the_same(name):
    import onnxruntime

    from limbeck.graph import to_onnx

    of = problem()
    model = made(name, LEARNT.get(name, {}), of)
    module = model.module.eval()
    tensors = model.encoder.rows(of.test)
    session = onnxruntime.InferenceSession(to_onnx(module, {k: v[:3] for k, v in tensors.items()}))
    for count in (1, 7, len(of.test)):
        some = {key: value[:count] for key, value in tensors.items()}
        taken = {one.name: some[one.name] for one in session.get_inputs()}
        said = dict(zip([one.name for one in session.get_outputs()], session.run(None, taken), strict=True))
        with torch.no_grad():
            wanted = module(**{key: torch.from_numpy(value) for key, value in some.items()})
        for key, value in said.items():
            np.testing.assert_allclose(value, wanted[key].numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("linear_forecast", {"kernel": 0}, "kernel is 0"),
        ("linear_forecast", {"scaling": "log"}, "scaling"),
        ("forecast_mlp", {"hidden": ()}, "hidden"),
        ("forecast_mlp", {"dropout": 1.0}, "dropout is 1.0"),
        ("nhits", {"pools": (0,)}, "pools"),
        ("patch_transformer", {"width": 10, "heads": 4}, "heads divide"),
        ("boosted_forecast", {"row_share": 0.0}, "row_share"),
        ("boosted_forecast", {"back": -1}, "back is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, settings, words):
    with pytest.raises(UserError, match=words):
        parts.make("models", name, settings).encoder(problem())


def test_rows_that_are_no_windows_are_refused():
    of = problem()
    bare = Rows(pa.table({"text": ["a"]}), np.arange(1), "here")
    with pytest.raises(UserError, match="no column has the role 'series'"):
        parts.make("models", "last_value", {}).encoder(Problem(bare, bare, bare, of.axis, ("text",)))
