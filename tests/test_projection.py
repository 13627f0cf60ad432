import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.projection import (
    AttentionFusion,
    Projection,
    Resized,
    along,
    axis,
    by_place,
    check_alike,
    check_places,
    pooled,
    resized,
    width,
)

torch.set_num_threads(1)


def states(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("student", "teacher"), [((3, 5), (3, 7)), ((3, 4, 5), (3, 4, 7)), ((3, 5, 2, 2), (3, 7, 6, 4))]
)
@pytest.mark.parametrize("layers", [1, 3])
def test_a_students_states_come_to_the_teachers_shape(
    student: tuple[int, ...], teacher: tuple[int, ...], layers: int
) -> None:
    torch.manual_seed(0)
    project = Projection(student, teacher, layers=layers)
    found = project(states(*student), states(*teacher))
    assert found.shape == teacher
    found.sum().backward()
    assert all(p.grad is not None for p in project.parameters())


def test_every_place_is_mapped_alike() -> None:
    project = Projection((3, 4, 5), (3, 4, 7))
    whole = states(3, 4, 5)
    found = project(whole, states(3, 4, 7))
    torch.testing.assert_close(found[:, 2], whole[:, 2] @ project.map[0].weight.T + project.map[0].bias)


def test_it_sizes_pictures_as_the_teacher_has_them_now_and_tokens_as_many_as_there_are() -> None:
    pictures = Projection((3, 5, 2, 2), (3, 7, 6, 4))
    assert pictures(states(2, 5, 3, 3), states(2, 7, 9, 8)).shape == (2, 7, 9, 8)
    tokens = Projection((3, 4, 5), (3, 4, 7))
    assert tokens(states(2, 11, 5), states(2, 11, 7)).shape == (2, 11, 7)


def test_it_maps_in_its_own_precision() -> None:
    leaf = states(3, 5).bfloat16().requires_grad_()
    found = Projection((3, 5), (3, 7))(leaf, states(3, 7))
    assert found.dtype == torch.float32
    found.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        ((3, 5), (3, 4, 5), "tap other parts"),
        ((3,), (3,), "tap other parts"),
        ((3, 4, 5), (3, 6, 5), "4 places a row, the teacher's 6"),
    ],
)
def test_states_with_other_places_are_refused(student: tuple[int, ...], teacher: tuple[int, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_alike(student, teacher)
    with pytest.raises(UserError, match=words):
        Projection(student, teacher)


def test_states_without_places_are_refused_where_places_are_compared() -> None:
    check_places((3, 4, 5), (3, 4, 7))
    with pytest.raises(UserError, match="no places to compare"):
        check_places((3, 5), (3, 7))


def test_widths_and_places_of_each_kind_of_states() -> None:
    picture = states(2, 3, 4, 5)
    assert [width(x.shape) for x in (states(2, 7), states(2, 4, 7), picture)] == [7, 7, 3]
    assert by_place(states(2, 7)).shape == (2, 1, 7)
    assert by_place(states(2, 4, 7)).shape == (2, 4, 7)
    torch.testing.assert_close(by_place(picture)[1, 7], picture[1, :, 1, 2])
    for some in (states(2, 3), states(2, 4, 3), picture):
        found = some * along(torch.tensor([1.0, 10.0, 100.0]), some)
        torch.testing.assert_close(found.select(axis(some), 1), 10 * some.select(axis(some), 1))


def test_the_larger_picture_is_averaged_down_in_each_direction() -> None:
    tall, wide = states(1, 1, 4, 2), states(1, 1, 2, 4)
    mine, theirs = pooled(tall, wide)
    torch.testing.assert_close(mine, tall.unflatten(2, (2, 2)).mean(3))
    torch.testing.assert_close(theirs, wide.unflatten(3, (2, 2)).mean(4))
    assert pooled(states(2, 5), states(2, 7))[1].shape == (2, 7)


def test_pictures_of_one_size_are_left_as_they_are() -> None:
    picture = states(1, 2, 3, 3)
    assert resized(picture, states(1, 9, 3, 3)) is picture
    torch.testing.assert_close(resized(torch.ones(1, 2, 3, 3), states(1, 9, 5, 7)), torch.ones(1, 2, 5, 7))


def test_states_whose_channels_mean_the_same_are_only_resized() -> None:
    picture, tokens = states(1, 2, 3, 3), states(1, 4, 5)
    assert Resized()(picture, states(1, 2, 6, 5)).shape == (1, 2, 6, 5)
    assert Resized()(tokens, states(1, 4, 5)) is tokens


def test_fusion_weighs_a_stage_and_deeper_ones_at_each_place() -> None:
    torch.manual_seed(0)
    fuse = AttentionFusion(3, 7, middle=4, deepest=False)
    own, deeper = states(2, 3, 4, 4), states(2, 4, 2, 2)
    left, kept = fuse(own, deeper, states(2, 7, 6, 6))
    assert left.shape == (2, 7, 6, 6)
    entered, grown = fuse.enter(own), deeper.repeat_interleave(2, 2).repeat_interleave(2, 3)
    share = torch.sigmoid(fuse.weigh(torch.cat([entered, grown], 1)))
    torch.testing.assert_close(kept, entered * share[:, :1] + grown * share[:, 1:])
    deepest = AttentionFusion(3, 7, middle=4, deepest=True)
    torch.testing.assert_close(deepest(own, None, states(2, 7, 4, 4))[1], deepest.enter(own))
