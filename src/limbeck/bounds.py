"""What a search may try, and what may come of it: ranges, a budget, a number of trials."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from limbeck.errors import UserError

Cost = Literal["bytes", "parameters", "p95_ms"]
Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class Range:
    """Numbers that `limbeck tune` may try.

    Args:
        low, high: the ends, both included. Whole numbers are tried where both ends are whole, and so is what is
            given without a search.
        log: whether equal ratios count as equal steps, as suits rates and sizes.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"low is {self.low} and high {self.high}; low must be below high")
        if self.log and self.low <= 0:
            raise UserError(f"low is {self.low}; with log it must be above 0")


@dataclass(frozen=True)
class Budget:
    """What an exported file may cost, measured on that very file.

    Args:
        bytes: of the model's file.
        parameters: of the student.
        p95_ms: milliseconds in which 95 of 100 rows are answered, one by one on one thread, encoding included.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    bytes: Positive | None = None
    parameters: Positive | None = None
    p95_ms: Annotated[float, Field(gt=0)] | None = None

    @property
    def limits(self) -> dict[str, float]:
        """Those that were set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Tune:
    """How `limbeck tune` searches; a run passes it over.

    Args:
        trials: of every student, and as many of its twin.
        budget: what the chosen file may cost.
        axes: costs that the front weighs the headline against; by default the sizes in the budget, or bytes. Latency
            is noisy, and so a bound and no axis unless it is named here.
        prune: whether a training is given up that has fallen behind the middle one of those no larger than it.
        seed: of the search.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    trials: Positive = 30
    budget: Budget = Budget()
    axes: tuple[Cost, ...] = ()
    prune: bool = True
    seed: int = 0

    @property
    def costs(self) -> tuple[str, ...]:
        """The axes."""
        sizes = tuple(name for name in self.budget.limits if name != "p95_ms")
        return self.axes or sizes or ("bytes",)
