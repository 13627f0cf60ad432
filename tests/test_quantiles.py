import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.quantiles import masses_of, pinball

levels = st.lists(st.integers(1, 99), min_size=1, max_size=9, unique=True).map(
    lambda found: sorted(x / 100 for x in found)
)


@given(levels)
def test_masses_make_each_outcome_the_quantile_of_its_own_level(found: list[float]) -> None:
    at = torch.tensor(found)
    masses = masses_of(at)
    assert masses.sum().item() == pytest.approx(1.0)
    above = masses.cumsum(0)
    assert (above - masses < at).all()
    assert (above > at).all()


def test_one_sure_outcome_is_the_usual_pinball_loss() -> None:
    student, truth = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[3.0]])
    found = pinball(student, truth, torch.tensor([0.1, 0.5, 0.9]), torch.ones(1))
    assert found.item() == pytest.approx((0.1 * 2 + 0.5 * 1 + 0.1 * 2) / 3)
