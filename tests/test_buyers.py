"""Against the published formulas with their hypergeometric functions, and a brute-force simulation."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import betaln, gammaln, hyp2f1

from limbeck.buyers import (
    Bought,
    bg_nbd_expectation,
    bg_nbd_log_likelihood,
    fitted,
    gamma_gamma_expectation,
    gamma_gamma_log_likelihood,
    pareto_nbd_expectation,
    pareto_nbd_log_likelihood,
)
from limbeck.errors import Diverged
from limbeck.types import Array

CUSTOMERS = [(0, 0.0, 38.9), (0, 0.0, 0.5), (1, 3.0, 38.0), (2, 30.43, 38.86)]
CUSTOMERS += [(7, 20.0, 30.0), (29, 38.0, 39.0), (150, 90.0, 100.0)]
BG = [(0.243, 4.414, 0.793, 2.426), (1.3, 0.7, 0.2, 0.3), (0.5, 20.0, 2.4, 5.0)]
PARETO = [(0.553, 10.578, 0.606, 11.669), (1.3, 2.0, 1.7, 9.0), (0.4, 20.0, 0.3, 3.0)]


def bought(customers: list[tuple[float, float, float]] = CUSTOMERS) -> Bought:
    return Bought(*torch.tensor(customers, dtype=torch.float64).T)


def of(*parameters: float) -> torch.Tensor:
    return torch.tensor(parameters, dtype=torch.float64)


@pytest.mark.parametrize("parameters", BG)
def test_bg_nbd_is_that_of_its_paper(parameters: tuple[float, ...]) -> None:
    """Fader, Hardie, Lee 2005, equations 6 and 10 as they stand, the hypergeometric function by Euler's integral."""
    r, alpha, a, b = parameters
    time = 39.0
    for (x, tx, t), likelihood, expected in zip(
        CUSTOMERS,
        bg_nbd_log_likelihood(bought(), of(*parameters)).tolist(),
        bg_nbd_expectation(bought(), of(*parameters), time).tolist(),
        strict=True,
    ):
        scale = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        here = betaln(a, b + x) - betaln(a, b) + scale - (r + x) * np.log(alpha + t)
        left = betaln(a + 1, b + x - 1) - betaln(a, b) + scale - (r + x) * np.log(alpha + tx) if x else -np.inf
        assert likelihood == pytest.approx(np.logaddexp(here, left), rel=1e-9)
        # The expectation given the posteriors of rate and chance, integrated rather than summed.
        alive = 1 / (1 + (a / (b + x - 1) * ((alpha + t) / (alpha + tx)) ** (r + x) if x else 0.0))
        assert expected == pytest.approx(alive * _by_beta(r + x, alpha + t, a, b + x, time), rel=2e-5)


def _by_beta(shape: float, rate: float, a: float, b: float, time: float) -> float:
    """E[(1 - exp(-lambda p t)) / p] over lambda gamma and p beta; p = u^(1 / a) takes away the pole at 0."""

    def height(u: float) -> float:
        p = u ** (1 / a)
        inner = -np.expm1(-shape * np.log1p(p * time / rate)) / p if p > 1e-12 else shape * time / rate
        return float(inner * (1 - p) ** (b - 1) / a)

    return float(quad(height, 0, 1, epsabs=0, epsrel=1e-9, limit=500)[0] * np.exp(-betaln(a, b)))


@pytest.mark.parametrize("parameters", PARETO)
def test_pareto_nbd_is_that_of_its_papers(parameters: tuple[float, ...]) -> None:
    """Fader and Hardie 2005, "A Note on Deriving the Pareto/NBD Model", with Gauss' hypergeometric functions."""
    r, alpha, s, beta = parameters
    time = 39.0
    found = pareto_nbd_log_likelihood(bought(), of(*parameters)).tolist()
    expectations = pareto_nbd_expectation(bought(), of(*parameters), time).tolist()
    for (x, tx, t), likelihood, expected in zip(CUSTOMERS, found, expectations, strict=True):
        whole, low, high, own = r + s + x, min(alpha, beta), max(alpha, beta), s + 1 if alpha >= beta else r + x

        def part(moment: float, whole: float = whole, low: float = low, high: float = high, own: float = own) -> float:
            z = (high - low) / (high + moment)
            return float(np.log(hyp2f1(whole, own, whole + 1, z)) - whole * np.log(high + moment))

        first, second = part(tx), part(t)
        integral = np.log(s / whole) + first + np.log1p(-np.exp(second - first))
        here = -(r + x) * np.log(alpha + t) - s * np.log(beta + t)
        scale = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + s * np.log(beta)
        assert likelihood == pytest.approx(scale + np.logaddexp(here, integral), rel=1e-7)
        alive = 1 / (1 + np.exp(integral - here))
        more = (r + x) * (beta + t) / ((alpha + t) * (s - 1)) * (1 - ((beta + t) / (beta + t + time)) ** (s - 1))
        assert expected == pytest.approx(alive * more, rel=1e-6)


def test_expectations_are_finite_where_formulas_are_0_over_0() -> None:
    for parameters in ((0.5, 4.0, 1.0, 2.0), (0.5, 4.0, 0.4, 0.6)):
        near = bg_nbd_expectation(bought(), of(*(p * 1.002 for p in parameters)), 39.0)
        torch.testing.assert_close(bg_nbd_expectation(bought(), of(*parameters), 39.0), near, rtol=0.02, atol=1e-6)
    near = pareto_nbd_expectation(bought(), of(0.5, 4.0, 1.004, 9.0), 39.0)
    torch.testing.assert_close(
        pareto_nbd_expectation(bought(), of(0.5, 4.0, 1.0, 9.0), 39.0), near, rtol=0.01, atol=1e-6
    )


@pytest.mark.parametrize("often", [0, 1, 30])
def test_customers_who_all_stay_or_all_leave_have_an_answer(often: int) -> None:
    """Parameters run off to where the model allows; what is said of customers stays finite."""
    random = np.random.default_rng(0)
    age = random.uniform(1.0, 300.0, 400)
    recency = np.where(often > 1, age * random.uniform(0.9, 1.0, 400), age * 0.01) * (often > 0)
    customers = Bought(*torch.from_numpy(np.stack([np.full(400, often) * 1.0, recency, age])))
    for likelihood, expectation, start in (
        (bg_nbd_log_likelihood, bg_nbd_expectation, (1.0, 30.0, 1.0, 2.0)),
        (pareto_nbd_log_likelihood, pareto_nbd_expectation, (1.0, 30.0, 1.0, 30.0)),
    ):
        found = fitted(lambda p, of=likelihood: of(customers, p), start)
        said = expectation(customers, found, 100.0)
        assert torch.isfinite(said).all()
        assert (said >= 0).all()
        assert said.mean() < 100 * (often + 1)


def simulated(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Customers as the Pareto/NBD model has them: (frequency, recency, age) until 39, and purchases in 39 more."""
    random = np.random.default_rng(seed)
    rate, leaving = random.gamma(0.8, 1 / 8.0, count), random.gamma(1.5, 1 / 20.0, count)
    life = random.exponential(1 / leaving)
    known, later = np.zeros((count, 3)), np.zeros(count)
    for i in range(count):
        times = np.cumsum(random.exponential(1 / max(rate[i], 1e-9), 400))
        times = times[times < life[i]]
        before = times[times <= 39.0]
        known[i] = len(before), before[-1] if len(before) else 0.0, 39.0
        later[i] = ((times > 39.0) & (times <= 78.0)).sum()
    return known, later


def test_parameters_that_made_customers_are_found_again_and_foretell_them() -> None:
    known, later = simulated(6000)
    customers = Bought(*torch.from_numpy(known.T.copy()))
    found = fitted(lambda p: pareto_nbd_log_likelihood(customers, p), (1.0, 5.0, 1.0, 5.0))
    made = of(0.8, 8.0, 1.5, 20.0)
    assert pareto_nbd_log_likelihood(customers, found).sum() >= pareto_nbd_log_likelihood(customers, made).sum() - 1e-6
    np.testing.assert_allclose(found[:2].numpy(), made[:2].numpy(), rtol=0.15)
    said = pareto_nbd_expectation(customers, found, 39.0).numpy()
    assert said.sum() == pytest.approx(later.sum(), rel=0.05)
    for low, high in ((0, 0), (1, 2), (3, 400)):
        some = (known[:, 0] >= low) & (known[:, 0] <= high)
        assert said[some].mean() == pytest.approx(later[some].mean(), abs=4 * later[some].std() / some.sum() ** 0.5)


def test_gamma_gamma_integrates_to_1_and_shrinks_to_everybodys_mean() -> None:
    parameters = of(6.25, 3.74, 15.44)
    for often in (1.0, 3.0):

        def density(mean: float, often: float = often) -> float:
            return float(gamma_gamma_log_likelihood(torch.tensor([often]).double(), of(mean), parameters).exp())

        assert quad(density, 0, 5000, limit=400, points=[10, 50, 300])[0] == pytest.approx(1.0, abs=1e-5)
    everybody = 6.25 * 15.44 / (3.74 - 1)
    said = gamma_gamma_expectation(of(0, 1, 1000), of(0, 100, 100), parameters)
    assert said[0].item() == pytest.approx(everybody, rel=1e-9)
    assert everybody < said[1].item() < said[2].item() < 100.1


def test_a_likelihood_without_a_summit_says_so() -> None:
    with pytest.raises(Diverged, match="could not be fitted"):
        fitted(lambda p: p[:1] * torch.nan, (1.0,))
