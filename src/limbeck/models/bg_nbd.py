"""BG/NBD: customers buy at rates of their own, and after any purchase one may leave without a word."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from limbeck.buyer_reader import BuyerModel, Expectation, purchases_of
from limbeck.buyers import Bought, bg_nbd_expectation, bg_nbd_log_likelihood
from limbeck.encoder import Encoder


class Geometric(Expectation):
    """Expected purchases of the BG/NBD model."""

    def purchases(self, bought: Bought) -> Tensor:
        """Within the horizon, (B,)."""
        return bg_nbd_expectation(bought, self.parameters_of_purchases.double(), self.horizon)


@dataclass(frozen=True)
class BgNbd(BuyerModel):
    """The beta-geometric model of buyers; of dollars, with the gamma-gamma model of amounts.

    Source: Fader, Hardie, Lee 2005; of amounts Fader and Hardie 2013.
    """

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """Parameters of 1."""
        return Geometric(purchases_of(encoder).layout, 4)

    def log_likelihood(self, bought: Bought, parameters: Tensor) -> Tensor:
        """(B,), nats."""
        return bg_nbd_log_likelihood(bought, parameters)

    def start(self, time: float) -> tuple[float, ...]:
        """r, alpha, a, b."""
        return 1.0, time / 5, 1.0, 2.0
