import numpy as np
import pytest
import torch
from torch import nn

from limbeck.descent import average, flushed, groups, optimizer, schedule
from limbeck.errors import UserError
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.objective import Objective
from limbeck.recipe import Training

HARD = Objective([("hard", CrossEntropy(), 1.0)])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("constant", [0.001, 0.501, 1.0, 1.0, 1.0]),
        ("linear", [0.001, 0.501, 1.0, 0.5, 0.0]),
        ("cosine", [0.001, 0.501, 1.0, 0.5, 0.0]),
    ],
)
def test_schedules_rise_and_fall_as_they_are_called(kind: str, wanted: list[float]) -> None:
    training = Training.model_validate({"warmup": 0.2, "schedule": kind})
    assert [schedule(training, share) for share in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx(wanted)
    assert schedule(training.model_copy(update={"warmup": 0.0}), 0.0) == 1.0


def test_the_cosine_is_a_quarter_way_down_at_a_third() -> None:
    assert schedule(Training(warmup=0.0, schedule="cosine"), 1 / 3) == pytest.approx(0.75)


class Wide(nn.Module):
    """A part that learns faster, and one that does not learn."""

    rates = {"table.": 10.0}  # noqa: RUF012  # as families write it

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last, self.fixed = nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 2)
        self.fixed.requires_grad_(False)


def test_every_parameter_that_learns_is_in_one_group_with_its_rate() -> None:
    student = Wide()
    objective = Objective([("hard", CrossEntropy(), 1.0)])
    objective.terms[0].scale = nn.Parameter(torch.ones(()))
    found = {group["factor"]: set(map(id, group["params"])) for group in groups(student, objective)}
    assert found == {
        1.0: {id(p) for p in (*student.last.parameters(), *objective.parameters())},
        10.0: {id(p) for p in student.table.parameters()},
    }
    assert [group["factor"] for group in groups(nn.Linear(2, 2), HARD)] == [1.0]


def test_the_optimiser_is_made_as_the_training_says() -> None:
    training = Training(
        optimizer="SGD", learning_rate=0.3, weight_decay=0.1, optimizer_settings={"momentum": 0.9, "fused": False}
    )
    made = optimizer(groups(nn.Linear(2, 2), HARD), training)
    assert type(made) is torch.optim.SGD
    (group,) = made.param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"], group["fused"]) == (0.3, 0.1, 0.9, False)


def test_an_optimiser_that_torch_lacks_is_refused() -> None:
    with pytest.raises(UserError, match=r"torch.optim has no 'Optimus'; try AdamW, Adam or SGD"):
        optimizer(groups(nn.Linear(2, 2), HARD), Training(optimizer="Optimus"))


def test_weights_are_averaged_where_the_training_wants_it() -> None:
    assert average(nn.Linear(2, 2), Training()) is None
    student = nn.Linear(1, 1, bias=False)
    averaged = average(student, Training(ema=0.75))
    assert averaged is not None
    for value in (1.0, 2.0, 4.0):
        nn.init.constant_(student.weight, value)
        averaged.update_parameters(student)
    assert averaged.module.weight.item() == pytest.approx(0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 4)


def tiny() -> float:
    return float(np.float32(1e-40) * np.float32(1.0))


def test_tiny_numbers_are_flushed_for_a_while_alone() -> None:
    assert tiny() > 0
    with flushed():
        assert tiny() == 0
        with flushed():
            assert tiny() == 0
        assert tiny() == 0
    assert tiny() > 0
    with pytest.raises(KeyboardInterrupt), flushed():
        raise KeyboardInterrupt
    assert tiny() > 0
