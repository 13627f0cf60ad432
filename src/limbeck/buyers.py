"""Buy till you die: what customers who buy as they like, until they silently leave, will buy after what they bought.

Everything is in torch, so that likelihoods are climbed by their gradients and expectations leave as ONNX: no operation
here is beyond logarithms and powers. Time is in any unit, as long as it is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from limbeck.errors import Diverged
from limbeck.types import Array

NODES = 64
"""Of the quadrature: enough for hundreds of purchases."""
TERMS = 400
"""Of the series."""
MOST = 10.0
"""Of the BG/NBD's a: where almost all leave at once it would run off for ever, and the series with it."""
APART = 1e-3
"""How far a parameter stays from a value at which a formula is 0 / 0."""


class Bought(NamedTuple):
    """What is known of B customers.

    Args:
        frequency: repeat purchases, (B,).
        recency: when the last of them was, counted from the first purchase, (B,); 0 without any.
        age: from the first purchase to now, (B,).
    """

    frequency: Tensor
    recency: Tensor
    age: Tensor


def bg_nbd_log_likelihood(bought: Bought, parameters: Tensor) -> Tensor:
    """Of the BG/NBD model: purchases at a gamma rate, after each of which one leaves by a beta chance.

    Args:
        bought: of B customers.
        parameters: r, alpha (in time), a, b; all above 0.

    Returns:
        (B,), nats.

    Source: Fader, Hardie, Lee 2005, "Counting Your Customers" the Easy Way, equation 6.
    """
    r, alpha, a, b = parameters
    a = a.clamp(max=MOST)
    x, recency, age = bought
    rate = torch.lgamma(r + x) - torch.lgamma(r) + r * alpha.log()
    stays = torch.lgamma(b + x) + torch.lgamma(a + b) - torch.lgamma(b) - torch.lgamma(a + b + x)
    here = stays - (r + x) * (alpha + age).log()
    # Left after the last repeat purchase, which there must be.
    left = stays + a.log() - (b + x - 1.0).clamp(min=APART).log() - (r + x) * (alpha + recency).log()
    return rate + torch.where(x > 0, torch.logaddexp(here, left), here)


def bg_nbd_expectation(bought: Bought, parameters: Tensor, time: float) -> Tensor:
    """Purchases within `time` from now, by the BG/NBD model.

    Args:
        bought: of B customers.
        parameters: r, alpha (in time), a, b.
        time: looked ahead.

    Returns:
        (B,).

    Source: Fader, Hardie, Lee 2005, equation 10. By Euler's transformation its hypergeometric function becomes
    ((alpha + T) / (alpha + T + t))^(a - 1) times one whose first two parameters are the same for all customers, so
    that its series converges soon whatever they bought.
    """
    r, alpha, a, b = parameters
    a = torch.where((a - 1.0).abs() < APART, 1.0 + APART, a.clamp(max=MOST))
    x, recency, age = bought
    z = (time / (alpha + age + time)).unsqueeze(1)
    steps = torch.arange(TERMS, dtype=x.dtype, device=x.device)
    third = (a + b + x - 1.0).unsqueeze(1)
    third = torch.where(third.abs() < APART, APART, third)
    shared = (a + b - 1.0 - r + steps) * (a - 1.0 + steps) / (1.0 + steps)
    series = 1.0 + torch.cumprod(z * shared / (third + steps), 1).sum(1)
    whole = third.squeeze(1) / (a - 1.0) * (1.0 - (1.0 - z.squeeze(1)) ** (a - 1.0) * series)
    gone = a / (b + x - 1.0).clamp(min=APART) * ((r + x) * ((alpha + age) / (alpha + recency)).log()).exp()
    return (whole / torch.where(x > 0, 1.0 + gone, 1.0)).clamp(min=0.0)


def pareto_nbd_log_likelihood(bought: Bought, parameters: Tensor) -> Tensor:
    """Of the Pareto/NBD model: purchases at a gamma rate, over a life whose end comes at another gamma rate.

    Args:
        bought: of B customers.
        parameters: r, alpha (in time), s, beta (in time); all above 0.

    Returns:
        (B,), nats.

    Source: Schmittlein, Morrison, Colombo 1987; as the integral over the moment of leaving (Fader and Hardie 2005,
    "A Note on Deriving the Pareto/NBD Model", equation 15), by Gauss and Legendre, rather than by their
    hypergeometric functions.
    """
    r, alpha, s, beta = parameters
    x, _, age = bought
    here = -(r + x) * (alpha + age).log() - s * (beta + age).log()
    rate = torch.lgamma(r + x) - torch.lgamma(r) + r * alpha.log() + s * beta.log()
    return rate + here + functional.softplus(_log_odds_gone(bought, parameters))


def pareto_nbd_expectation(bought: Bought, parameters: Tensor, time: float) -> Tensor:
    """Purchases within `time` from now, by the Pareto/NBD model.

    Args:
        bought: of B customers.
        parameters: r, alpha (in time), s, beta (in time).
        time: looked ahead.

    Returns:
        (B,).

    Source: Schmittlein, Morrison, Colombo 1987, equation 22.
    """
    r, alpha, s, beta = parameters
    s = torch.where((s - 1.0).abs() < APART, 1.0 + APART, s)
    x, _, age = bought
    lasting = 1.0 - ((beta + age) / (beta + age + time)) ** (s - 1.0)
    alive = torch.sigmoid(-_log_odds_gone(bought, parameters))
    return ((r + x) * (beta + age) / ((alpha + age) * (s - 1.0)) * lasting * alive).clamp(min=0.0)


def _log_odds_gone(bought: Bought, parameters: Tensor) -> Tensor:
    """Of having left since the last purchase, by the Pareto/NBD model, (B,)."""
    r, alpha, s, beta = (one.unsqueeze(-1) for one in parameters)
    x, recency, age = (one.unsqueeze(1) for one in bought)
    places, masses = np.polynomial.legendre.leggauss(NODES)
    place = torch.as_tensor((places + 1) / 2, dtype=x.dtype, device=x.device)
    mass = torch.as_tensor(masses / 2, dtype=x.dtype, device=x.device)
    # Over the logarithm of alpha + moment: powers of that, which fall steeply after many purchases, fall evenly there.
    span = ((alpha + age) / (alpha + recency)).log().clamp(min=1e-9)
    moment = (alpha + recency) * (span * place).exp()
    height = (r + x) * span * (1 - place) + moment.log() + span.log() - (beta - alpha + moment).log()
    height = height + s * ((beta + age) / (beta - alpha + moment)).log()
    return (s.log() + mass.log() + height).logsumexp(1)


def gamma_gamma_log_likelihood(frequency: Tensor, mean: Tensor, parameters: Tensor) -> Tensor:
    """Of the mean amount of a customer's repeat purchases, whose amounts are gamma about a gamma mean of their own.

    Args:
        frequency: purchases that the mean is of, (B,), 1 or more.
        mean: amount, (B,), above 0.
        parameters: p, q, v (an amount); all above 0.

    Returns:
        (B,), nats.

    Source: Fader and Hardie 2013, "The Gamma-Gamma Model of Monetary Value", equation 1a.
    """
    p, q, v = parameters
    px = p * frequency
    scale = torch.lgamma(px + q) - torch.lgamma(px) - torch.lgamma(q) + q * v.log()
    return scale + (px - 1) * mean.log() + px * frequency.log() - (px + q) * (v + frequency * mean).log()


def gamma_gamma_expectation(frequency: Tensor, mean: Tensor, parameters: Tensor) -> Tensor:
    """The amount of a customer's purchases to come, (B,); without a repeat purchase that of everybody.

    Args:
        frequency: purchases that the mean is of, (B,).
        mean: amount, (B,); of no account where the frequency is 0.
        parameters: p, q, v.

    Source: Fader and Hardie 2013, equation 5.
    """
    p, q, v = parameters
    return p * (v + frequency * mean) / (p * frequency + q - 1.0).clamp(min=APART)


def fitted(log_likelihood: Callable[[Tensor], Tensor], start: Sequence[float]) -> Tensor:
    """The parameters above 0 of the greatest likelihood, float64.

    Args:
        log_likelihood: parameters -> (B,).
        start: parameters to climb from.

    Raises:
        Diverged: there is no summit, as where no customer ever came back.
    """

    def descend(logs: Array) -> tuple[float, Array]:
        at = torch.from_numpy(logs).requires_grad_()
        loss = -log_likelihood(at.exp()).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        assert at.grad is not None
        return float(loss.detach()), at.grad.numpy()

    bounds = [(one - SPAN, one + SPAN) for one in np.log(start)]
    found = minimize(
        descend, np.log(start), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-12}
    )
    if not (np.isfinite(found.x).all() and math.isfinite(found.fun)):
        raise Diverged(f"a model of buyers could not be fitted: {found.message}; look at the customers' purchases")
    return torch.from_numpy(np.exp(found.x))


SPAN = 9.0
"""How far, in logarithms, a parameter is looked for: where customers are all alike it would run off for ever."""
