"""What an attacker of pictures may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from limbeck.errors import UserError

ATTACKED = "attacked"
"""The signal that a student's logits of attacked rows are."""


@dataclass(frozen=True)
class Threat:
    """Pictures moved, within a distance nobody notices, to where a model errs most.

    Args:
        radius: how far any channel of any pixel may be moved, its values counted in [0, 1]; 8/255 is 0.0314.
        steps: of the attack.
        step: how far each moves a value; one step of `radius` without a random start is FGSM.
        against: what a picture is moved away from: its `label`, or what the `teacher` says of it unmoved. A training
            without a teacher, such as the honest twin's, has but labels; a row without a label is moved away from
            the class that the model itself gives it.
        random_start: whether the attack starts anywhere within the distance, or at the picture itself.

    Source: Madry et al. 2018 (PGD in the L-infinity ball); Goodfellow et al. 2015 (FGSM). The defaults are those with
    which ARD and RSLAD train.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    radius: float = 8 / 255
    steps: int = 10
    step: float = 2 / 255
    against: Literal["label", "teacher"] = "label"
    random_start: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.radius <= 1 or not 0 < self.step <= 1 or self.steps < 1:
            raise UserError(
                f"attack: radius is {self.radius}, step {self.step} and steps {self.steps}; distances above 0 and at "
                "most 1 (all that a pixel can be moved; 8/255 is 0.0314), and 1 step or more were wanted"
            )
        if self.against not in ("label", "teacher"):
            raise UserError(f"attack: against is '{self.against}'; it must be label or teacher")
