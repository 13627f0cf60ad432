import pytest
import torch

from limbeck.errors import UserError
from limbeck.expert import Experts

torch.set_num_threads(1)


def naive(experts: Experts, state: torch.Tensor, teacher: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Expert by expert, for one place of one row."""
    share = torch.softmax((torch.log_softmax(experts.gate(teacher), 0) + noise) / experts.temperature, 0)
    middle = experts.enter.out_features // experts.count
    found = torch.zeros_like(teacher)
    for one in range(experts.count):
        mine = slice(one * middle, (one + 1) * middle)
        inner = torch.relu(experts.enter.weight[mine] @ state + experts.enter.bias[mine])
        found = found + share[one] * (experts.leave.weight[:, mine] @ inner + experts.shift[one])
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_equal_to_a_sum_over_experts(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4, 6), torch.randn(3, 4, 10)
    experts = Experts(student.shape, teacher.shape, count=5)
    experts.temperature = temperature
    torch.nn.init.normal_(experts.shift)
    torch.manual_seed(1)
    found = experts(student, teacher)
    torch.manual_seed(1)
    noise = -torch.empty(5).exponential_().log()
    for row in range(3):
        for place in range(4):
            wanted = naive(experts, student[row, place], teacher[row, place], noise)
            torch.testing.assert_close(found[row, place], wanted, rtol=1e-4, atol=1e-5)


def test_a_cold_gate_sends_each_row_through_one_expert() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 6), torch.randn(7, 10)
    experts = Experts(student.shape, teacher.shape, count=3)
    experts.temperature = 1e-6
    found = experts(student, teacher).squeeze(1)
    inner = torch.relu(experts.enter(student)).unflatten(1, (3, -1))
    alone = torch.stack([inner[:, e] @ experts.leave.weight.unflatten(1, (3, -1))[:, e].T for e in range(3)], 1)
    nearest = (alone - found.unsqueeze(1)).abs().amax(2).amin(1)
    assert nearest.max() < 1e-4


def test_pictures_are_resized_and_groups_are_of_rows() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 3)
    experts = Experts(student.shape, teacher.shape, count=4)
    assert experts(student, teacher).shape == (2, 6, 5)
    assert experts.group(teacher).shape == (2,)


def test_states_of_other_places_are_refused() -> None:
    with pytest.raises(UserError, match="tap other parts"):
        Experts((2, 3), (2, 3, 4), count=2)
