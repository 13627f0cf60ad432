"""What models of customers share: the purchases they read, and closed models of buyers fitted to these alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.buyers import Bought, fitted, gamma_gamma_expectation, gamma_gamma_log_likelihood
from limbeck.customers import AGO, Layout
from limbeck.encoder import Encoder
from limbeck.encoders.purchases import Form, Purchases
from limbeck.errors import UserError
from limbeck.types import Array, Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

SPENT = (6.0, 4.0, 15.0)
"""Where the gamma-gamma model's climb begins; its third is scaled to the amounts."""


def purchases(problem: Problem, form: Form) -> Encoder:
    """The encoder of a problem's customers.

    Raises:
        UserError: its rows are no customers.
    """
    if AGO not in problem.train.names or "customers" not in problem.columns:
        raise UserError("these rows are no customers with purchases; such models are for the task value")
    return Encoder([Purchases.fit(problem.train, Layout.load(problem.columns["customers"]), form)])


def purchases_of(encoder: Encoder) -> Purchases:
    """The encoding of an encoder that `purchases` made."""
    (found,) = encoder.encodings
    assert isinstance(found, Purchases)
    return found


def told(bought: Tensor) -> tuple[Bought, Tensor]:
    """The tensor (B, 4) of the encoding by its meaning, and the mean amounts (B,)."""
    return Bought(bought[:, 0], bought[:, 1], bought[:, 2]), bought[:, 3]


class Expectation(nn.Module, ABC):
    """Purchases to come, times what one is worth.

    Args:
        layout: what is asked.
        count: of the model's own parameters.
    """

    parameters_of_purchases: Tensor
    parameters_of_amounts: Tensor

    def __init__(self, layout: Layout, count: int) -> None:
        super().__init__()
        self.horizon = float(layout.horizon)
        self.dollars = layout.target == "dollars"
        self.register_buffer("parameters_of_purchases", torch.ones(count))
        self.register_buffer("parameters_of_amounts", torch.tensor([1.0, 2.0, 1.0]))

    @abstractmethod
    def purchases(self, bought: Bought) -> Tensor:
        """Expected within the horizon, (B,)."""

    def forward(self, bought: Tensor) -> dict[str, Tensor]:
        """Customers (B, 4) to `values` (B, 1)."""
        # Powers of many purchases do not fit into 32 bits.
        known, mean = told(bought.double())
        worth = self.purchases(known)
        if self.dollars:
            worth = worth * gamma_gamma_expectation(known.frequency, mean, self.parameters_of_amounts.double())
        return {"values": worth.float().unsqueeze(1)}


@dataclass(frozen=True)
class BuyerModel(ABC):
    """What such families share: four parameters of all customers, of the greatest likelihood of what was bought so far.

    What customers want after the cut is not looked at. Amounts follow the gamma-gamma model, fitted to customers with
    repeat purchases.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"values": "values"}

    def encoder(self, problem: Problem) -> Encoder:
        """Three numbers of every customer's purchases, and their mean amount."""
        return purchases(problem, "bought")

    @abstractmethod
    def log_likelihood(self, bought: Bought, parameters: Tensor) -> Tensor:
        """(B,), nats."""

    @abstractmethod
    def start(self, time: float) -> tuple[float, ...]:
        """Parameters to climb from, where customers are this old on the whole."""

    def fit(
        self,
        module: nn.Module,
        inputs: Mapping[str, Array],
        target: Any,  # noqa: ARG002  # what customers want after the cut is not looked at
        weight: Array | None,
    ) -> None:
        """Climb to the greatest likelihood.

        Args:
            module: as `module` built it.
            inputs: the encoder's tensors.
            target: not looked at.
            weight: (N,), or none.
        """
        assert isinstance(module, Expectation), "the module is this family's own"
        known, mean = told(torch.from_numpy(inputs["bought"]).double())
        count = torch.ones(len(mean)).double() if weight is None else torch.from_numpy(weight).double()
        old = max(float(known.age.mean()), 1.0)
        found = fitted(lambda p: count * self.log_likelihood(known, p), self.start(old))
        state = {"parameters_of_purchases": found.float(), "parameters_of_amounts": module.parameters_of_amounts}
        paid = (known.frequency > 0) & (mean > 0)
        if module.dollars and paid.any():
            often, typical = known.frequency[paid], mean[paid]
            begin = (*SPENT[:2], SPENT[2] * float(typical.mean()) / sum(SPENT))
            spent = fitted(lambda p: count[paid] * gamma_gamma_log_likelihood(often, typical, p), begin)
            state["parameters_of_amounts"] = spent.float()
        module.load_state_dict(state)
