import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.steps import StepTerm, by_step, steps_of


def total(numbers: Tensor) -> Tensor:
    return numbers.sum(1)


class Sum(StepTerm):
    signal = "x"

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return by_step(total, [student["x"]], batch)


def test_rows_without_steps_count_as_one_each() -> None:
    losses = by_step(total, [torch.tensor([[1.0, 2.0], [3.0, 4.0]])], {"mask": torch.zeros(2, 1)})
    assert losses.tolist() == [3.0, 7.0]
    assert Sum().counts({"x": torch.zeros(2, 2)}, {"mask": torch.zeros(2, 1)}).tolist() == [1.0, 1.0]
    assert by_step(lambda x: x, [torch.tensor([5.0])], {}).tolist() == [5.0]


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5))
def test_steps_are_summed_and_counted_as_in_a_loop(mask: list[list[bool]]) -> None:
    numbers = torch.arange(len(mask) * 6.0).reshape(len(mask), 3, 2)
    batch = {"mask": torch.tensor(mask)}
    losses = by_step(total, [numbers], batch)
    assert steps_of(batch).tolist() == Sum().counts({"x": numbers}, batch).tolist() == [sum(row) for row in mask]
    wanted = [
        sum(step.sum().item() for step, there in zip(steps, row, strict=True) if there)
        for steps, row in zip(numbers, mask, strict=True)
    ]
    assert losses.tolist() == wanted


def test_without_a_mask_all_steps_count() -> None:
    said = {"x": torch.rand(2, 3, 4)}
    every = Sum()(said, said, {"mask": torch.ones(2, 3)})
    torch.testing.assert_close(Sum()(said, said, {}), every)
    assert every.item() == pytest.approx(said["x"].sum().item() / 6, rel=1e-6)


def test_a_sized_term_counts_steps_without_a_look_at_the_teacher() -> None:
    batch, numbers = {"mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}, torch.rand(2, 3, 4)
    for name in ("x", "x.ids"):
        term = Sum()
        term.size({"x": numbers}, {name: numbers}, batch)
        assert term.counts({}, batch).tolist() == [2, 1]
    flat = Sum()
    flat.size({"x": numbers[:, 0]}, {"x": numbers[:, 0]}, batch)
    assert flat.counts({}, batch).tolist() == [1, 1]


def test_what_stands_at_a_step_that_does_not_count_is_never_computed_with() -> None:
    numbers = torch.tensor([[[1.0], [math.nan]]], requires_grad=True)
    losses = by_step(lambda x: x[:, 0].sqrt(), [numbers], {"mask": torch.tensor([[1, 0]])})
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert numbers.grad is not None
    assert numbers.grad.flatten().tolist() == [0.5, 0.0]


def test_other_steps_or_another_mask_are_refused() -> None:
    with pytest.raises(UserError, match=r"rows and steps are \[\(2, 3\), \(2, 4\)\]"):
        by_step(total, [torch.zeros(2, 3, 1), torch.zeros(2, 4, 1)], {})
    with pytest.raises(UserError, match=r"'mask' in the batch has shape \(2, 4\), the steps \(2, 3\)"):
        by_step(total, [torch.zeros(2, 3, 1)], {"mask": torch.ones(2, 4)})
