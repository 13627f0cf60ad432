"""A student that borrows its teacher's classifier: only what leads up to it is learnt, and both are deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck import parts
from limbeck.encoder import Encoder
from limbeck.errors import UserError
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem


class Borrowed(nn.Module):
    """A projection to the teacher's width, and a classifier of that width.

    Args:
        into: the width of the student's last states.
        width: that of the teacher's.
        outputs: C.
        factor: how many times narrower than the teacher's the projection is in its middle.
    """

    def __init__(self, into: int, width: int, outputs: int, *, factor: int) -> None:
        super().__init__()
        middle = max(1, width // factor)
        self.projection = nn.Sequential(nn.Linear(into, middle), nn.ReLU(), nn.Linear(middle, width))
        self.classifier = nn.Linear(width, outputs)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, into) to logits (B, C)."""
        logits: Tensor = self.classifier(self.projection(states))
        return logits


@dataclass(frozen=True)
class BorrowedClassifier:
    """SimKD: the student's last states are projected to its teacher's, and read by the teacher's own classifier.

    Its one loss is the distance of the two states:
    `{loss: fit_net, student: head.projection, teacher: dropout, project: false}`, without any label. The classifier
    stays as the teacher has it; without a teacher, as in the honest twin, it is learnt with the rest.

    Args:
        body: a family whose last part is a linear head, with its settings, such as `{model: picture_convolution}`.
        teacher_width: of the states that the teacher's classifier reads.
        head: path of the body's own head, whose place the borrowed one takes.
        classifier: path of the teacher's linear classifier.
        factor: how many times narrower than the teacher's states the projection is in its middle.

    Source: Chen et al. 2022 (CVPR), section 3. The source projects maps of features before they are pooled, and
    normalises them over the batch; here the pooled states are projected, and nothing hangs on a row's neighbours.
    """

    body: dict[str, Any]
    teacher_width: int
    head: str = "head"
    classifier: str = "head"
    factor: int = 2

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def __post_init__(self) -> None:
        if min(self.teacher_width, self.factor) < 1:
            raise UserError(f"teacher_width is {self.teacher_width} and factor {self.factor}; both must be 1 or more")
        if "model" not in self.body:
            raise UserError("body names no model; write {model: picture_convolution, ...}")
        if hasattr(self._family, "fit"):
            raise UserError(f"'{self.body['model']}' is fitted in one go, and has no states to project")

    @property
    def _family(self) -> Any:
        settings = {name: value for name, value in self.body.items() if name != "model"}
        return parts.make("models", self.body["model"], settings)

    @property
    def source(self) -> str | None:
        """Where the body's weights come from; none where they are fresh."""
        found: str | None = getattr(self._family, "source", None)
        return found

    def content(self) -> Any:
        """Of the weights that the body starts from; none where they are fresh."""
        return self._family.content() if hasattr(self._family, "content") else None

    def encoder(self, problem: Problem) -> Encoder:
        """The body's."""
        encoder: Encoder = self._family.encoder(problem)
        return encoder

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """The body with fresh weights, and the classifier in place of its head."""
        module: nn.Module = self._family.module(encoder, outputs)
        into = _linear(module, self.head, f"the body '{self.body['model']}'").in_features
        owner, _, name = self.head.rpartition(".")
        setattr(module.get_submodule(owner), name, Borrowed(into, self.teacher_width, outputs, factor=self.factor))
        return module

    def inherit(self, module: nn.Module, teacher: nn.Module) -> None:
        """Take over the teacher's classifier, which stays as it is from now on.

        Raises:
            UserError: the teacher has no such classifier, or one of another width.
        """
        theirs = _linear(teacher, self.classifier, "the teacher")
        mine = _linear(module, f"{self.head}.classifier", "the student")
        if theirs.weight.shape != mine.weight.shape or theirs.bias is None:
            raise UserError(
                f"the teacher's classifier '{self.classifier}' reads {theirs.in_features} numbers"
                f"{'' if theirs.bias is not None else ' and has no bias'}, and teacher_width is {self.teacher_width}"
            )
        with torch.no_grad():
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)
        mine.requires_grad_(False)


def _linear(module: nn.Module, path: str, whose: str) -> nn.Linear:
    part = dict(module.named_modules()).get(path)
    if not isinstance(part, nn.Linear):
        said = "nothing" if part is None else f"a {type(part).__name__}"
        known = [name for name, one in module.named_modules() if isinstance(one, nn.Linear)]
        raise UserError(f"{whose} has {said} at '{path}'; linear there: {', '.join(known) or 'nothing'}")
    return part
