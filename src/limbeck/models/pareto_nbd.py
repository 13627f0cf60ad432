"""Pareto/NBD: customers buy at rates of their own, until lives of their own end without a word."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from limbeck.buyer_reader import BuyerModel, Expectation, purchases_of
from limbeck.buyers import Bought, pareto_nbd_expectation, pareto_nbd_log_likelihood
from limbeck.encoder import Encoder


class Living(Expectation):
    """Expected purchases of the Pareto/NBD model."""

    def purchases(self, bought: Bought) -> Tensor:
        """Within the horizon, (B,)."""
        return pareto_nbd_expectation(bought, self.parameters_of_purchases.double(), self.horizon)


@dataclass(frozen=True)
class ParetoNbd(BuyerModel):
    """The classic model of buyers; of dollars, with the gamma-gamma model of amounts.

    Source: Schmittlein, Morrison, Colombo 1987; of amounts Fader and Hardie 2013.
    """

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Parameters of 1."""
        return Living(purchases_of(encoder).layout, 4)

    def log_likelihood(self, bought: Bought, parameters: Tensor) -> Tensor:
        """(B,), nats."""
        return pareto_nbd_log_likelihood(bought, parameters)

    def start(self, time: float) -> tuple[float, ...]:
        """r, alpha, s, beta."""
        return 1.0, time / 5, 1.0, time / 5
