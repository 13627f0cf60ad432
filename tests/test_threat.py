import pytest

from limbeck.errors import UserError
from limbeck.threat import Threat


def test_the_defaults_are_those_ard_and_rslad_train_with() -> None:
    assert Threat() == Threat(radius=8 / 255, steps=10, step=2 / 255, against="label", random_start=True)


@pytest.mark.parametrize("wrong", [{"radius": 8}, {"radius": 0}, {"step": 0}, {"step": 2}, {"steps": 0}])
def test_an_impossible_distance_is_refused_with_one_that_is_usual(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"attack: radius is .* 8/255 is 0\.0314"):
        Threat(**wrong)  # type: ignore[arg-type]


def test_an_unknown_aim_is_refused() -> None:
    with pytest.raises(UserError, match="against is 'labels'; it must be label or teacher"):
        Threat(against="labels")  # type: ignore[arg-type]
